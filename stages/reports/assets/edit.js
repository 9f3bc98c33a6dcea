'use strict';

/* The page of one edit: its viewer, the scrubber of the paths, buttons that copy, keys.
   Without this script the page shows before and after, whole paths, and text to be selected. */

/** Shows where each handle was after a step. */
class Scrubber {
  constructor(host, drawing, paths) {
    this.paths = paths;
    [this.button, this.input, this.output] = host.children;
    this.steps = Number(this.input.max);
    this.groups = paths.map((_, index) => {
      const group = drawing.querySelector(`[data-handle="${index}"]`);
      for (const kind of ['dot-edge', 'now']) {
        const dot = document.createElementNS('http://www.w3.org/2000/svg', 'path');
        dot.setAttribute('class', kind);
        dot.dataset.now = '';
        group.append(dot);
      }
      return group;
    });
    this.input.addEventListener('input', () => {
      this.stop();
      this.draw();
    });
    this.button.addEventListener('click', () => (this.timer ? this.stop() : this.play()));
    host.hidden = false;
    this.draw();
  }

  /** Go through all steps in about three seconds, from the first if the last is shown. */
  play() {
    if (Number(this.input.value) === this.steps) this.input.value = 0;
    this.draw();
    this.button.textContent = 'pause';
    this.timer = setInterval(() => {
      this.input.value = Number(this.input.value) + 1;
      this.draw();
      if (Number(this.input.value) === this.steps) this.stop();
    }, Math.max(40, 3000 / this.steps));
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = 'play';
  }

  draw() {
    const step = Number(this.input.value);
    const places = this.paths.map(({path, target}, index) => {
      const shown = path.slice(0, step + 1);
      const [x, y] = shown.at(-1);
      const group = this.groups[index];
      const points = shown.map(([px, py]) => `${px + 0.5},${py + 0.5}`).join(' ');
      for (const line of group.querySelectorAll('polyline')) line.setAttribute('points', points);
      for (const dot of group.querySelectorAll('[data-now]')) dot.setAttribute('d', `M${x + 0.5} ${y + 0.5}h.001`);
      const distance = Math.hypot(x - target[0], y - target[1]);
      return `${index + 1} at (${x.toFixed(0)}, ${y.toFixed(0)}), ${distance.toFixed(1)} px from its target`;
    });
    this.output.textContent = `step ${step} of ${this.steps}: ${places.join('; ')}`;
  }
}

/** Copy the text beside a button; where the browser does not allow it, select it. */
async function copy(button) {
  const text = button.parentElement.querySelector('code');
  button.removeAttribute('aria-label');
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = 'copied';
  } catch {
    getSelection().selectAllChildren(text);
    button.textContent = 'selected';
  }
}

function read(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

const view = read('view');
const viewer = new Viewer(document.getElementById('viewer'));
viewer.show(view);
if (!view.layers[view.right].src) viewer.alone(view.left);
document.querySelector('.keys').hidden = false;
for (const button of document.querySelectorAll('[data-copy]')) {
  button.hidden = false;
  button.addEventListener('click', () => copy(button));
}
listen({
  ...viewer.keys,
  j: ['the next edit', () => document.querySelector('a[rel="next"]')?.click()],
  k: ['the edit before', () => document.querySelector('a[rel="prev"]')?.click()],
}, viewer);
const scrubber = document.querySelector('.scrubber');
if (scrubber) new Scrubber(scrubber, document.getElementById('tracks'), read('paths'));
