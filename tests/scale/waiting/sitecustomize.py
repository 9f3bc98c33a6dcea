"""Lets every Python that has this folder on its path watch its stages, or only wait in them.

Python imports a module of this name at its start. The stages are taken over as soon as they are
there, and a process that never asks for them pays nothing.
"""

import importlib.util
import sys


class _WhenThere:
    """Finds the module of the stages as others do, and takes the stages over once it has run."""

    def find_spec(self, name, _path, _target=None):
        if name != "stages.pipeline":
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        run = found.loader.exec_module

        def exec_module(module):
            run(module)
            import waiting_stages

            waiting_stages.take_over(module.STAGES)

        found.loader.exec_module = exec_module
        return found


sys.meta_path.insert(0, _WhenThere())
