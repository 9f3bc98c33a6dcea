"""The edits of a page, in a real browser: what is unsaved, and what saving, undo and others do."""

import pytest
from support.browser import watched_page

from stages.reports.rendering import asset

# Two edits as the file has them, and ways to say what a page has and what another one did.
BEGIN = """
    const line = (name, fields) => ({name, fields: {id: name, image: 'a.png', ...fields}});
    const edits = new Edits();
    edits.read([line('a', {prompt: 'old'}), line('b')]);
    const prompts = () => edits.list.filter((edit) => !edit.removed)
      .map(({name, fields}) => `${name}:${fields.prompt ?? ''}`).join(' ');
    const saved = (lines, more) => edits.read(lines, {sent: edits.changes(), ...more});
"""
CASES = {
    "nothing is unsaved at first": ("return edits.changes()", []),
    "a change says what was there": (
        "edits.set('a', {prompt: 'new'}); const [{name, before, after}] = edits.changes();"
        "return [name, before.prompt, after.prompt]",
        ["a", "old", "new"],
    ),
    "letters of one text are undone together, other changes one by one": (
        "edits.set('a', {prompt: 'n'}, 'prompt'); edits.set('a', {prompt: 'ne'}, 'prompt');"
        "edits.set('b', {prompt: 'x'}); edits.undo(); const one = prompts(); edits.undo();"
        "const two = prompts(); edits.redo(); return [one, two, prompts()]",
        ["a:ne b:", "a:old b:", "a:ne b:"],
    ),
    "what is saved is unsaved no more, and can be undone": (
        "edits.set('a', {prompt: 'new'}); saved([line('a', {prompt: 'new'}), line('b')]);"
        "const left = edits.changes().length; edits.undo();"
        "return [left, prompts(), edits.changes()[0].before.prompt]",
        [0, "a:old b:", "new"],
    ),
    "what was typed while it was saved stays unsaved": (
        "edits.set('a', {prompt: 'new'}); const sent = edits.changes();"
        "edits.set('a', {prompt: 'newer'});"
        "edits.read([line('a', {prompt: 'new'}), line('b')], {sent});"
        "return [prompts(), edits.changes()[0].before.prompt]",
        ["a:newer b:", "new"],
    ),
    "what others changed is taken in, also where it is undone": (
        "edits.set('a', {prompt: 'new'});"
        "saved([line('a', {prompt: 'new'}), line('b', {prompt: 'theirs'}), line('c')]);"
        "edits.undo(); return [prompts(), edits.changes().length]",
        ["a:old b:theirs c:", 1],
    ),
    "what others removed goes, unless it was changed here": (
        "edits.set('a', {prompt: 'new'}); const conflicts = [{name: 'a', key: '', reason: ''}];"
        "saved([], {conflicts}); const kept = prompts();"
        "edits.settle(conflicts[0], true); return [kept, edits.changes()[0].before]",
        ["a:new", None],
    ),
    "a conflict stays unsaved until it is settled": (
        "edits.set('a', {prompt: 'mine'}); const conflict = {name: 'a', key: 'prompt', reason: ''};"
        "const theirs = [line('a', {prompt: 'theirs'}), line('b')];"
        "saved(theirs, {conflicts: [conflict]}); const before = edits.changes()[0].before.prompt;"
        "edits.settle(conflict, true); const settled = edits.changes()[0].before.prompt;"
        "edits.settle(conflict, false);"
        "return [before, settled, prompts(), edits.changes().length]",
        ["old", "theirs", "a:theirs b:", 0],
    ),
    "an edit that was removed and saved can be had again": (
        "edits.remove('a'); saved([line('b')]); const gone = [prompts(), edits.changes().length];"
        "edits.undo(); return [...gone, prompts(), edits.changes()[0].before]",
        ["b:", 0, "a:old b:", None],
    ),
    "a new edit whose id was taken meanwhile goes by its new name": (
        "edits.add('a.png', 'c'); edits.set('c', {prompt: 'mine'});"
        "const own = line('c-2', {prompt: 'mine', drags: []});"
        "saved([line('a', {prompt: 'old'}), line('b'), line('c'), own], {names: {c: 'c-2'}});"
        "const left = edits.changes().length; edits.undo();"
        "return [left, prompts()]",
        [0, "a:old b: c-2: c:"],
    ),
    "a painted mask is unsaved until it is in the file": (
        "edits.change('a', {paint: 'data:image/png;base64,QQ==', seen: null});"
        "const [{mask, seen}] = edits.changes();"
        "const names = saved([line('a', {prompt: 'old', mask: 'm.png'}), line('b')]);"
        "edits.saw('a', 'digest'); const left = edits.changes().length; edits.undo();"
        "const [{before, after}] = edits.changes(); edits.redo();"
        "return [mask, seen, names.join(), left, before.mask, after.mask ?? null,"
        "edits.changes().length]",
        ["QQ==", None, "a", 0, "m.png", None, 0],
    ),
}


@pytest.fixture(scope="module")
def page(browser):
    with watched_page(browser) as page:
        page.add_script_tag(content=asset("annotate_edits.js").decode())
        yield page


@pytest.mark.parametrize("case", CASES)
def test_edits(page, case):
    code, expected = CASES[case]
    assert page.evaluate(f"() => {{ {BEGIN} {code} }}") == expected
