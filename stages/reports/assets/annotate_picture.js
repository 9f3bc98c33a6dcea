'use strict';
/* A picture on which arrows are drawn and a mask is painted. Points are pixels (x, y) of the
 * picture, whose centers have whole numbers, at any zoom; new and moved ones are whole.
 *
 * `on` are functions: draw(handle, target), move(index, end, point, isOver), remove(index),
 * paint(dataURL), zoom(scale).
 */
class Picture {
  static #SVG = 'http://www.w3.org/2000/svg';

  static #COLOR = '#ffeb3b'; // of the mask

  constructor(host, on) {
    this.on = on;
    this.mode = 'draw';
    this.brush = 24;
    this.scale = 1;
    this.isFit = true;
    [this.width, this.height] = [0, 0];
    this.drags = [];
    this.others = [];
    this.cursor = null;  // where the keyboard is
    this.begun = null;   // handle of an arrow that has no target yet
    this.#build(host);
    this.#listen();
  }

  #build(host) {
    this.view = host;
    this.view.className = 'view';
    this.sheet = document.createElement('div');
    this.sheet.className = 'sheet';
    [this.image, this.preview] = [new Image(), new Image()];
    this.preview.className = 'preview';
    this.preview.alt = '';
    this.preview.hidden = true;
    this.canvas = document.createElement('canvas');
    this.svg = this.#make('svg', {tabindex: 0, role: 'application'});
    this.sheet.append(this.image, this.preview, this.canvas, this.svg);
    this.view.append(this.sheet);
  }

  /** Take no more of the picture, since another one comes. */
  leave() {
    [this.width, this.height, this.coming] = [0, 0, null];
    this.sheet.classList.add('left');
    this.showPreview(null);
  }

  /** Show another picture, whole, once it is there: nothing is ever placed on the one before. */
  async show({src, name, width, height}) {
    const image = new Image();
    [image.src, image.alt] = [src, name];
    this.coming = image;
    await image.decode();
    if (this.coming !== image) return;
    this.image.replaceWith(image);
    this.image = image;
    [this.width, this.height] = [width, height];
    this.sheet.classList.remove('left');
    this.svg.setAttribute('aria-label',
      `${name}, ${width} by ${height} pixels: arrow keys move the cursor, Enter places a handle, then its target`);
    this.svg.setAttribute('viewBox', `-0.5 -0.5 ${width} ${height}`);
    [this.canvas.width, this.canvas.height] = [width, height];
    [this.cursor, this.begun, this.masked] = [null, null, null];
    this.fit();
  }

  /** Show the arrows of an edit, and faintly those of the picture's other edits. */
  showDrags(drags, others) {
    [this.drags, this.others] = [drags, others];
    this.#draw();
  }

  /** Show a mask that was painted; null for none. */
  async showMask(src) {
    if (this.masked === src) return;
    this.masked = src;
    const context = this.canvas.getContext('2d');
    const image = src && new Image();
    if (image) {
      image.src = src;
      await image.decode().catch(() => {}); // who saves is told what is wrong with a mask
    }
    if (this.masked !== src) return;
    context.globalCompositeOperation = 'source-over';
    context.clearRect(0, 0, this.width, this.height);
    if (!image?.naturalWidth) return;
    context.drawImage(image, 0, 0);
    context.globalCompositeOperation = 'source-in';
    context.fillStyle = Picture.#COLOR;
    context.fillRect(0, 0, this.width, this.height);
  }

  showPreview(src) {
    this.preview.hidden = !src;
    if (src) this.preview.src = src;
  }

  fit() {
    this.isFit = true;
    const {clientWidth, clientHeight} = this.view;
    this.#setScale(Math.min(clientWidth / this.width, clientHeight / this.height, 8));
  }

  /** Zoom by a factor about a place of the window, or to a scale; by default about the middle. */
  zoom(scale, at = null) {
    this.isFit = false;
    const box = this.view.getBoundingClientRect();
    const [x, y] = at ?? [box.left + box.width / 2, box.top + box.height / 2];
    const [column, row] = this.#place(x, y);
    this.#setScale(Math.min(32, Math.max(0.02, scale)));
    const [nowX, nowY] = this.#window(column, row);
    this.view.scrollLeft += nowX - x;
    this.view.scrollTop += nowY - y;
  }

  #setScale(scale) {
    if (!(scale > 0) || !Number.isFinite(scale)) return;
    this.scale = scale;
    this.sheet.style.width = `${this.width * scale}px`;
    this.sheet.style.height = `${this.height * scale}px`;
    this.sheet.classList.toggle('pixels', scale >= 2);
    this.on.zoom(scale);
    this.#draw();
  }

  #place(clientX, clientY) {
    const box = this.sheet.getBoundingClientRect();
    return [(clientX - box.left) / this.scale - 0.5, (clientY - box.top) / this.scale - 0.5];
  }

  #window(x, y) {
    const box = this.sheet.getBoundingClientRect();
    return [box.left + (x + 0.5) * this.scale, box.top + (y + 0.5) * this.scale];
  }

  #whole([x, y]) {
    return [Math.min(Math.max(Math.round(x), 0), this.width - 1),
      Math.min(Math.max(Math.round(y), 0), this.height - 1)];
  }

  // Drawing

  #make(name, attributes = {}, ...children) {
    const made = document.createElementNS(Picture.#SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  #draw() {
    const focused = document.activeElement?.dataset ?? {};
    const parts = this.others.map((drag) => this.#arrow(drag, 'other'));
    this.drags.forEach((drag, index) => parts.push(
      this.#arrow(drag), this.#end(drag, index, 'target'), this.#end(drag, index, 'handle')));
    if (this.begun) parts.push(this.#dot(this.begun, 'handle'));
    if (this.begun && this.cursor) parts.push(this.#arrow({handle: this.begun, target: this.cursor}));
    if (this.cursor) parts.push(this.#cross(this.cursor));
    this.svg.replaceChildren(...parts);
    if (focused.end) this.focus(Number(focused.index), focused.end);
  }

  /** Move the keyboard to an end of an arrow. */
  focus(index, end) {
    this.svg.querySelector(`[data-index="${index}"][data-end="${end}"]`)?.focus({preventScroll: true});
  }

  #arrow({handle, target}, kind = 'own') {
    const [dx, dy] = [target[0] - handle[0], target[1] - handle[1]];
    const length = Math.hypot(dx, dy) || 1;
    const size = Math.min(14 / this.scale, length * 0.6);
    const [ux, uy] = [dx / length * size, dy / length * size];
    const back = [target[0] - ux, target[1] - uy];
    const line = `M${handle} L${back}`;
    const head = `M${target} L${back[0] - uy / 2} ${back[1] + ux / 2} L${back[0] + uy / 2} ${back[1] - ux / 2} Z`;
    return this.#make('g', {class: `arrow ${kind}`},
      this.#make('path', {d: line, class: 'edge'}), this.#make('path', {d: line, class: 'line'}),
      this.#make('path', {d: head, class: 'head'}));
  }

  #dot([x, y], kind, reach = 6) {
    return this.#make('circle', {cx: x, cy: y, r: reach / this.scale, class: kind});
  }

  #end(drag, index, end) {
    const label = `Arrow ${index + 1}, ${end} at ${drag[end].join(', ')}`;
    const made = this.#make('g', {tabindex: 0, role: 'button', 'aria-label': label, class: 'end'},
      this.#dot(drag[end], 'reach', 13), this.#dot(drag[end], end));
    Object.assign(made.dataset, {index, end});
    return made;
  }

  #cross([x, y]) {
    const arm = 12 / this.scale;
    const path = `M${x - arm} ${y} H${x + arm} M${x} ${y - arm} V${y + arm}`;
    const group = this.#make('g', {class: 'cursor'},
      this.#make('path', {d: path, class: 'edge'}), this.#make('path', {d: path, class: 'line'}));
    if (this.mode !== 'draw') group.append(this.#dot([x, y], 'brush', this.brush / 2 * this.scale));
    return group;
  }

  // Pointer

  #listen() {
    new ResizeObserver(() => this.isFit && this.fit()).observe(this.view);
    this.view.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.zoom(this.scale * 1.002 ** -event.deltaY, [event.clientX, event.clientY]);
    }, {passive: false});
    this.svg.addEventListener('pointerdown', (event) => this.#press(event));
    this.svg.addEventListener('keydown', (event) => this.#key(event));
    this.svg.addEventListener('keyup', (event) => { if (event.key === ' ') this.isPanning = false; });
    this.svg.addEventListener('blur', () => { this.isPanning = false; });
  }

  #press(event) {
    if (!this.width || event.button > 1) return;
    event.preventDefault();
    const end = event.target.closest('.end')?.dataset;
    const gesture = event.button === 1 || this.isPanning ? this.#pan(event)
      : this.mode !== 'draw' ? this.#stroke(event)
        : end ? this.#drag(Number(end.index), end.end) : this.#stretch(event);
    if (!end || this.mode !== 'draw') this.svg.focus({preventScroll: true});
    this.svg.setPointerCapture(event.pointerId);
    const over = new AbortController();
    const listen = (name, hear) => this.svg.addEventListener(name, hear, {signal: over.signal});
    listen('pointermove', (moved) => gesture(moved, false));
    for (const name of ['pointerup', 'pointercancel']) {
      listen(name, (last) => { over.abort(); gesture(last, true); });
    }
  }

  #pan({clientX, clientY}) {
    const {scrollLeft, scrollTop} = this.view;
    return (event) => {
      this.view.scrollLeft = scrollLeft + clientX - event.clientX;
      this.view.scrollTop = scrollTop + clientY - event.clientY;
    };
  }

  #drag(index, end) {
    this.focus(index, end);
    return (event, isOver) => {
      this.on.move(index, end, this.#whole(this.#place(event.clientX, event.clientY)), isOver);
    };
  }

  #stretch(event) {
    this.begun = this.#whole(this.#place(event.clientX, event.clientY));
    this.cursor = this.begun;
    return (moved, isOver) => {
      this.cursor = this.#whole(this.#place(moved.clientX, moved.clientY));
      const reach = Math.hypot(moved.clientX - event.clientX, moved.clientY - event.clientY);
      if (isOver && reach < 4) this.begun = null; // a click only moves the cursor
      if (isOver && this.begun) this.#finish();
      else this.#draw();
    };
  }

  #finish() {
    const [handle, target] = [this.begun, this.cursor];
    this.begun = null;
    if (String(handle) !== String(target)) this.on.draw(handle, target);
    else this.#draw();
  }

  #stroke(event) {
    let last = this.#place(event.clientX, event.clientY);
    this.#paint(last, last);
    return (moved, isOver) => {
      const next = this.#place(moved.clientX, moved.clientY);
      this.#paint(last, next);
      last = next;
      this.cursor = this.#whole(next);
      this.#draw();
      if (isOver) this.#painted();
    };
  }

  #paint(from, to) {
    const context = this.canvas.getContext('2d');
    context.globalCompositeOperation = this.mode === 'erase' ? 'destination-out' : 'source-over';
    Object.assign(context, {lineCap: 'round', lineWidth: this.brush, strokeStyle: Picture.#COLOR});
    context.beginPath();
    context.moveTo(from[0] + 0.5, from[1] + 0.5);
    context.lineTo(to[0] + 0.501, to[1] + 0.5); // a line without length draws nothing
    context.stroke();
  }

  #painted() {
    this.masked = this.canvas.toDataURL('image/png');
    this.on.paint(this.masked);
  }

  // Keyboard

  static #STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

  #key(event) {
    if (!this.width || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = Picture.#STEPS[event.key]?.map((by) => by * (event.shiftKey ? 10 : 1));
    const {index, end} = event.target.dataset;
    const isHeard = end ? this.#keyOnEnd(event, Number(index), end, step) : this.#keyOnSheet(event, step);
    if (!isHeard) return;
    event.preventDefault();
    event.stopPropagation();
  }

  #keyOnEnd({key}, index, end, step) {
    if (step) {
      const [x, y] = this.drags[index][end];
      this.on.move(index, end, this.#whole([x + step[0], y + step[1]]), true);
    } else if (key === 'Delete' || key === 'Backspace') {
      this.svg.focus({preventScroll: true});
      this.on.remove(index);
    } else if (key === 'Escape') this.svg.focus({preventScroll: true});
    else return false;
    return true;
  }

  #keyOnSheet({key}, step) {
    if (step) this.#moveCursor(step);
    else if (key === 'Enter') this.#enter();
    else if (key === ' ') this.isPanning = true;
    else if (key === 'Escape' && this.begun) { this.begun = null; this.#draw(); }
    else return false;
    return true;
  }

  #moveCursor([dx, dy]) {
    const [x, y] = this.cursor ?? [Math.round(this.width / 2), Math.round(this.height / 2)];
    this.cursor = this.#whole([x + dx, y + dy]);
    this.#draw();
    this.svg.querySelector('.cursor').scrollIntoView({block: 'nearest', inline: 'nearest'});
  }

  #enter() {
    if (!this.cursor) this.#moveCursor([0, 0]);
    if (this.mode !== 'draw') {
      this.#paint(this.cursor, this.cursor);
      this.#painted();
    } else if (this.begun) this.#finish();
    else {
      this.begun = this.cursor;
      this.#draw();
    }
  }
}
