'use strict';

/* Pictures of one edit at full size: two under a slider, or one alone, with its drags over them.

   const viewer = new Viewer(host);
   viewer.show({name, width, height, layers, left, right, drags, ends});

   layers: [{title, src, over, blend}]: `src` a picture at full size, `over` a transparent one that is
     laid on it; blend "difference" shows both as their difference, brightened. Without `src` a layer
     is a labeled hole; `hole` says why.
   left, right: indexes of the layers under the slider.
   drags: [[handle x, handle y, target x, target y], …], ends: [[x, y], …], in pixels of the image.

   What is shown (slider or alone, position, zoom) stays when another edit is shown. */
class Viewer {
  constructor(host) {
    this.host = host;
    this.single = null;
    this.frame = node('div', 'viewer-frame');
    this.frame.tabIndex = 0;
    this.frame.setAttribute('aria-label', 'picture');
    this.frame.setAttribute('role', 'group');
    this.sheet = node('div', 'viewer-sheet');
    this.line = node('div', 'viewer-line');
    this.bar = node('div', 'viewer-bar');
    this.bar.setAttribute('role', 'toolbar');
    this.bar.setAttribute('aria-label', 'layers');
    this.slider = node('input', 'viewer-slider');
    Object.assign(this.slider, {type: 'range', min: 0, max: 100, step: 0.1, value: 50});
    this.slider.addEventListener('input', () => this.#slide());
    this.frame.append(this.sheet);
    host.replaceChildren(this.bar, this.frame, this.slider);
    this.frame.addEventListener('pointerdown', (event) => this.#press(event));
    this.frame.addEventListener('pointermove', (event) => event.buttons && this.#point(event));
    window.addEventListener('resize', () => this.#scale());
    this.isExact = false;
    this.hidesDrags = false;
  }

  /** Show the pictures of an edit. */
  show(view) {
    this.view = view;
    this.host.style.setProperty('--w', view.width);
    this.host.style.setProperty('--h', view.height);
    this.slider.setAttribute('aria-label', `slider: ${this.#title(view.left)} and ${this.#title(view.right)}`);
    this.#draw();
  }

  /** Show one layer alone; null, or the one that is shown: the slider again. */
  alone(index) {
    this.single = index === this.single ? null : index;
    this.#draw();
  }

  /** Show a pixel of the image on a pixel of the screen, or fit the image into the page. */
  exact(isExact = !this.isExact) {
    this.isExact = isExact;
    this.#draw();
  }

  /** Show or hide handles and targets. */
  drags(areShown = this.hidesDrags) {
    this.hidesDrags = !areShown;
    this.#draw();
  }

  /** The keys of the viewer: words and action by key. */
  get keys() {
    return {
      s: ['slider', () => this.alone(null)],
      z: ['a pixel on a pixel of the screen', () => this.exact()],
      a: ['arrows', () => this.drags()],
    };
  }

  #title(index) {
    return this.view.layers[index]?.title ?? '';
  }

  #draw() {
    if (!this.view) return;
    const {layers, left, right} = this.view;
    const alone = layers[this.single] ? this.single : null;
    const shown = alone === null ? [left, right] : [alone];
    this.sheet.replaceChildren(...shown.map((index) => this.#layer(layers[index])));
    if (!this.hidesDrags) this.sheet.append(arrows(this.view));
    this.slider.hidden = alone !== null;
    if (alone === null) this.sheet.append(this.line);
    this.#drawBar(alone);
    this.#scale();
    this.#slide();
  }

  #layer(layer) {
    const box = node('div', 'viewer-layer');
    if (!layer?.src) return filled(box, node('div', 'viewer-hole', `${layer?.title ?? 'picture'}: ${layer?.hole ?? 'not made'}`));
    const isDifference = layer.blend === 'difference';
    box.classList.toggle('viewer-difference', isDifference);
    for (const address of [layer.src, layer.over]) {
      if (!address) continue;
      const picture = node('img');
      picture.alt = address === layer.src ? `${layer.title} of ${this.view.name}` : '';
      picture.draggable = false;
      picture.addEventListener('error', () => {
        box.replaceChildren(node('div', 'viewer-hole', `${layer.title}: ${address} cannot be shown`));
      });
      picture.src = address;
      box.append(picture);
    }
    return box;
  }

  #drawBar(alone) {
    const slider = this.#button('slider', alone === null, () => this.alone(null));
    slider.title = `${this.#title(this.view.left)} and ${this.#title(this.view.right)} side by side`;
    const buttons = this.view.layers.map((layer, index) => {
      const button = this.#button(`${index + 1} ${layer.title}`, index === alone, () => this.alone(index));
      button.classList.toggle('faint', !layer.src);
      return button;
    });
    const exact = this.#button('1:1', this.isExact, () => this.exact());
    exact.title = 'a pixel of the image on a pixel of the screen';
    const drags = this.#button('drags', !this.hidesDrags, () => this.drags());
    this.bar.replaceChildren(slider, ...buttons, exact, drags);
    if (this.focused !== undefined) this.bar.children[this.focused]?.focus();
    this.focused = undefined;
  }

  #button(text, isPressed, press) {
    const button = node('button', '', text);
    button.type = 'button';
    button.setAttribute('aria-pressed', isPressed);
    button.addEventListener('click', () => {
      this.focused = [...this.bar.children].indexOf(button);
      press();
    });
    return button;
  }

  #scale() {
    if (!this.view) return;
    const {width} = this.view;
    const ratio = window.devicePixelRatio;
    Object.assign(this.sheet.style, {width: this.isExact ? `${width / ratio}px` : '', margin: ''});
    this.sheet.classList.toggle('viewer-pixels', this.sheet.clientWidth * ratio >= width);
    if (this.isExact) {
      // Between the screen's pixels, the borders of pictures would be blended.
      const {top, left} = this.sheet.getBoundingClientRect();
      const [down, right] = [top, left].map((place) => Math.ceil(place * ratio) / ratio - place);
      this.sheet.style.margin = `${down}px 0 0 ${right}px`;
    }
  }

  #slide() {
    this.sheet.style.setProperty('--cut', `${this.slider.value}%`);
    this.sheet.classList.toggle('viewer-cut', !this.slider.hidden);
  }

  #press(event) {
    if (this.slider.hidden || event.button !== 0) return;
    this.frame.setPointerCapture(event.pointerId);
    this.#point(event);
  }

  #point(event) {
    if (this.slider.hidden) return;
    const box = this.sheet.getBoundingClientRect();
    this.slider.value = 100 * (event.clientX - box.left) / box.width;
    this.#slide();
  }
}

/** Do what `keys` have for a key, and show layers by their numbers where the viewer is on the screen; not while
    somebody types. */
function listen(keys, viewer, isOnScreen = () => true) {
  document.addEventListener('keydown', (event) => {
    const isTyping = event.target.matches('input:not([type=range]), textarea, select');
    if (isTyping && event.key === 'Escape') {
      event.preventDefault();
      event.target.blur();
    }
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    const layer = isOnScreen() && /^[1-9]$/.test(event.key) && viewer.view?.layers[event.key - 1];
    if (layer) viewer.alone(event.key - 1);
    else if (keys[event.key]) keys[event.key][1]();
    else return;
    event.preventDefault();
  });
}

/** Make an element with a class and a text. */
function node(name, classes = '', text = '') {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text) made.textContent = text;
  return made;
}

/** Put children into an element, and return it. */
function filled(element, ...children) {
  element.append(...children);
  return element;
}

/** Draw drags as arrows, and where handles were found; lines are as thin at every zoom. */
function arrows({width, height, drags = [], ends = []}) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('class', 'drags');
  svg.setAttribute('role', 'img');
  const words = drags.map(([x, y, toX, toY]) => `(${x}, ${y}) to (${toX}, ${toY})`);
  svg.setAttribute('aria-label', `drags from ${words.join('; ')}`);
  const draw = (path, kind) => {
    const line = document.createElementNS(svg.namespaceURI, 'path');
    line.setAttribute('d', path);
    line.setAttribute('class', kind);
    svg.append(line);
  };
  const dot = (x, y) => `M${x + 0.5} ${y + 0.5}h.001`;
  for (const [x, y, toX, toY] of drags) {
    const way = `M${x + 0.5} ${y + 0.5}L${toX + 0.5} ${toY + 0.5}`;
    for (const kind of ['edge', 'way']) draw(way, kind);
    for (const kind of ['dot-edge', 'target', 'target-hole']) draw(dot(toX, toY), kind);
    for (const kind of ['dot-edge', 'handle']) draw(dot(x, y), kind);
  }
  for (const [x, y] of ends) for (const kind of ['dot-edge', 'end']) draw(dot(x, y), kind);
  return svg;
}
