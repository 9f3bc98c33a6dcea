'use strict';
/* The page: one picture at a time, its edits beside it, and what the server says of them. */
class Page {
  static #MOST_LISTED = 300;

  static #POLL = 400; // milliseconds between looks at an edit that is being made

  constructor() {
    this.edits = new Edits();
    this.images = [];
    this.image = null;    // name of the picture that is shown
    this.info = null;     // what the server says of it
    this.selected = null; // name of the edit that is shown
    this.conflicts = [];
    this.asked = 0;
    this.picture = new Picture(Page.#at('picture'), {
      draw: (handle, target) => this.#drawn({handle, target}),
      move: (index, end, point, isOver) => this.#moved(index, end, point, isOver),
      remove: (index) => this.#setDrags(this.#drags().filter((_, number) => number !== index)),
      paint: (paint) => this.#painted(paint),
      zoom: (scale) => { Page.#at('zoom').value = `${Math.round(scale * 100)}%`; },
    });
    this.viewer = new Viewer(Page.#at('viewer'));
    this.#listen();
    this.#begin();
  }

  static #at(id) { return document.getElementById(id); }

  static #make(name, text = '', properties = {}) {
    const made = document.createElement(name);
    made.textContent = text;
    return Object.assign(made, properties);
  }

  static #address(path, name) { return `${path}?name=${encodeURIComponent(name)}`; }

  // The server

  async #ask(path, body, signal) {
    const sent = body === undefined ? {} : {method: 'POST', body: JSON.stringify(body), signal};
    let answer;
    try {
      answer = await fetch(path, sent);
    } catch {
      if (signal?.aborted) return {superseded: true};
      throw new Error('the server does not answer: is `adaptivedrag annotate` still running?');
    }
    const found = await answer.json().catch(() => ({error: answer.statusText}));
    if (found.error) throw new Error(found.error);
    return found;
  }

  /** Do something, and show in one line why it did not work. */
  async #tell(work) {
    try {
      return await work();
    } catch (error) {
      this.#say(error.message, 'bad');
      return null;
    }
  }

  #say(text, kind = 'faint') {
    const status = Page.#at('status');
    [status.textContent, status.className] = [text, kind];
  }

  async #begin() {
    const job = await this.#tell(() => this.#ask('job'));
    if (!job) return;
    this.#take(job);
    this.edits.read(job.edits);
    if (job.trying !== null) this.#lookOn(job.trying);
    const fresh = this.images.find(({name}) => !this.edits.ofImage(name).length);
    await this.#open(job.first || (fresh ?? this.images[0]).name);
  }

  #take(job) {
    this.job = job;
    this.images = job.images;
    for (const mode of ['paint', 'erase']) {
      document.querySelector(`[data-mode=${mode}]`).disabled = Boolean(job.unpaintable);
    }
  }

  // Pictures

  async #open(name) {
    this.image = name;
    [this.info, this.preview] = [null, null];
    this.selected = this.edits.ofImage(name)[0]?.name ?? null;
    this.asked += 1;
    // A browser has six connections to a server: those that wait for a picture that is left would
    // keep the next one waiting.
    this.waiting?.abort();
    this.looking?.abort();
    this.waiting = new AbortController();
    Page.#at('outcome').hidden = true;
    this.picture.leave();
    this.#show();
    await this.#tell(async () => {
      const info = await this.#ask(Page.#address('image', name));
      if (this.image !== name) return;
      await this.picture.show({src: Page.#address('picture.png', name), name, ...info});
      if (this.image !== name) return;
      this.info = info;
      this.#show();
      await this.#divide(name);
    });
  }

  /** Have the superpixels made, so that masks come at once. */
  async #divide(image) {
    this.#say('Finding superpixels…');
    const found = await this.#tell(() => this.#ask('superpixels', {image}, this.waiting.signal));
    if (this.image !== image || !found?.made) return;
    this.#say('');
    if (!this.preview) this.#look();
  }

  async #refresh() {
    const name = this.image;
    const info = await this.#tell(() => this.#ask(Page.#address('image', name)));
    if (this.image !== name || !info) return;
    this.info = info;
    this.#show();
  }

  #next(by) {
    const shown = this.#listed();
    const at = shown.findIndex(({name}) => name === this.image);
    const next = shown[at < 0 ? 0 : at + by];
    if (next) this.#open(next.name);
  }

  #listed() {
    const part = Page.#at('filter').value.toLowerCase();
    return this.images.filter(({name}) => name.toLowerCase().includes(part));
  }

  // The edit that is shown

  get #edit() { return this.selected === null ? undefined : this.edits.of(this.selected); }

  #drags(edit = this.#edit) {
    const drags = edit?.fields?.drags;
    return Page.#areDrags(drags) ? drags : [];
  }

  static #areDrags(drags) {
    const isPoint = (point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite);
    return Array.isArray(drags) && drags.every((drag) => drag && isPoint(drag.handle) && isPoint(drag.target));
  }

  #select(name) {
    this.selected = name;
    this.preview = null;
    this.#look();
  }

  #add() {
    const {stem} = this.images.find(({name}) => name === this.image);
    this.#select(this.edits.add(this.image, stem));
  }

  #drawn(drag) {
    if (!this.#edit) this.#add();
    const {drags = []} = this.#edit.fields;
    if (Page.#areDrags(drags)) this.#setDrags([...drags, drag]);
    else {
      this.#show();
      this.#say('The arrows of this edit cannot be read: correct them in the file, or make a new edit', 'bad');
    }
  }

  #moved(index, end, point, isOver) {
    const drags = this.#drags().map((drag, number) => (number === index ? {...drag, [end]: point} : drag));
    this.#setDrags(drags, `${end} ${index}`, isOver);
  }

  #setDrags(drags, kind = null, isOver = true) {
    this.edits.set(this.selected, {drags}, kind);
    this.picture.showDrags(drags, this.picture.others);
    if (!isOver) return;
    this.edits.rest();
    this.#look();
  }

  #set(key, value) {
    this.edits.set(this.selected, {[key]: value}, key);
    this.#look(400);
  }

  #painted(paint) {
    if (!this.#edit) this.#add();
    const {seen, paint: before} = this.#edit;
    const there = before ? seen : this.info.edits[this.selected]?.seen;
    this.edits.change(this.selected, {paint, seen: there ?? null});
    this.#show();
  }

  /** Ask what the reader says of the edit, and for its mask. */
  #look(pause = 0) {
    clearTimeout(this.pause);
    this.looking?.abort();
    this.looking = new AbortController();
    const {signal} = this.looking;
    this.asked += 1;
    const number = this.asked;
    this.isLooking = Boolean(this.#edit?.fields);
    this.#show();
    if (!this.isLooking) return;
    this.pause = setTimeout(async () => {
      const {name, fields} = this.#edit ?? {};
      if (!fields || number !== this.asked) return;
      const found = await this.#tell(() => this.#ask('preview', {name, fields}, signal));
      if (number !== this.asked || found?.superseded) return;
      this.isLooking = false;
      this.preview = found;
      this.#show();
    }, pause);
  }

  // Saving

  async #save() {
    const changes = this.edits.changes();
    if (!changes.length) {
      this.#say('All is saved');
      return true;
    }
    this.#say('Saving…');
    const job = await this.#tell(() => this.#ask('save', {changes}));
    if (!job) return false;
    this.#take(job);
    const masks = this.edits.read(job.edits, {sent: changes, ...job});
    this.selected = job.names[this.selected] ?? this.selected;
    this.conflicts = job.conflicts;
    await this.#refresh();
    for (const name of masks) this.edits.saw(name, this.info?.edits[name]?.seen ?? null);
    const count = this.conflicts.length;
    this.#say(count ? 'Not all is saved: see below' : 'Saved', count ? 'bad' : 'good');
    this.#show();
    return !count;
  }

  #settle(conflict, isOurs) {
    this.edits.settle(conflict, isOurs, this.info?.edits[conflict.name]?.seen ?? null);
    this.conflicts = this.conflicts.filter((each) => each !== conflict);
    this.#look();
  }

  // Trying

  async #try() {
    if (!this.#edit || !await this.#save()) return;
    const {name, fields} = this.#edit;
    const begun = await this.#tell(() => this.#ask('try', {name, fields}));
    if (begun) await this.#follow(this.image, this.#drags());
  }

  /** Follow an edit that was begun before this page was loaded. */
  async #lookOn(id) {
    const edit = this.edits.list.find(({fields}) => fields?.id === id);
    if (edit) await this.#follow(edit.fields.image, this.#drags(edit));
  }

  async #follow(image, drags) {
    Page.#at('stop').hidden = false;
    Page.#at('outcome').hidden = true;
    for (;;) {
      const trial = await this.#tell(() => this.#ask('trial'));
      if (!trial || trial.is_over) {
        Page.#at('stop').hidden = true;
        Page.#at('trial').textContent = '';
        if (trial) await this.#outcome(trial, image, drags);
        return;
      }
      const [done, all] = trial.steps;
      Page.#at('trial').textContent = `${trial.id}: ${trial.stage || 'begins'}${all ? `, ${done} of ${all}` : ''}`;
      await new Promise((resolve) => { setTimeout(resolve, Page.#POLL); });
    }
  }

  async #outcome(trial, image, drags) {
    if (this.image !== image) { // the reader has gone on
      this.#say(trial.reason ? `${trial.id} failed: ${trial.reason}` : `${trial.id}: ${trial.verdict}`, trial.reason ? 'bad' : 'good');
      return;
    }
    const verdict = Page.#at('verdict');
    verdict.className = trial.reason ? 'bad text' : 'text';
    verdict.textContent = trial.reason ? `${trial.id} failed: ${trial.reason}`
      : `${trial.id}: ${trial.sentence}`;
    Page.#at('outcome').hidden = false;
    Page.#at('viewer').hidden = !trial.verdict;
    if (trial.verdict) {
      const layers = [
        {title: 'before', src: Page.#address('picture.png', image)},
        {title: 'after', src: `tried.png?${Date.now()}`}, // the same address, another picture
      ];
      const {width, height} = this.info;
      const ends = drags.map(({handle, target}) => [...handle, ...target]);
      this.viewer.show({name: trial.id, width, height, layers, left: 0, right: 1, drags: ends});
    }
    verdict.scrollIntoView({block: 'nearest'});
    await this.#refresh();
  }

  // Showing

  #show() {
    const edits = this.image === null ? [] : this.edits.ofImage(this.image);
    if (!edits.some(({name}) => name === this.selected)) this.selected = edits[0]?.name ?? null;
    const edit = this.#edit;
    const others = edits.filter((each) => each !== edit).flatMap((each) => this.#drags(each));
    this.picture.showDrags(this.#drags(), others);
    this.#showMask(edit);
    this.#showForm(edit);
    this.#showEdits(edits);
    this.#showConflicts();
    this.#showList();
    const count = this.edits.changes().length;
    Page.#at('save').textContent = count ? `Save (${count})` : 'Save';
    Page.#at('undo').disabled = !this.edits.past.length;
    Page.#at('redo').disabled = !this.edits.future.length;
  }

  #showMask(edit) {
    const own = edit?.paint ?? (edit?.fields?.mask && `${Page.#address('mask.png', edit.fields.mask)}&${edit.seen ?? ''}`);
    this.picture.showMask(own || null);
    const {mask, share} = this.preview ?? {};
    const isShown = edit && mask && !(own && this.job.use_mask);
    this.picture.showPreview(isShown ? mask : null);
    const percent = this.isLooking && !(own && this.job.use_mask) ? 'Finding the automatic mask…'
      : isShown && `Automatic mask: ${(share * 100).toFixed(1)} % of the picture may change.`;
    const unused = own && !this.job.use_mask
      ? 'This job leaves painted masks aside: use_mask is false in its file.'
      : own && 'Only what is painted may change.';
    Page.#at('mask').textContent = [unused, percent].filter(Boolean).join(' ');
    Page.#at('take').hidden = !isShown || Boolean(this.job.unpaintable) || Boolean(own);
    Page.#at('unmask').hidden = !own;
  }

  #showForm(edit) {
    Page.#at('form').hidden = !edit;
    if (!edit) return;
    const {id, prompt, tags} = edit.fields;
    const text = (value) => (typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value));
    this.#fill('id', text(id));
    this.#fill('prompt', text(prompt));
    this.#fill('tags', Array.isArray(tags) ? tags.join(', ') : text(tags));
    Page.#at('drags').replaceChildren(...this.#drags().map((drag, index) => this.#dragItem(drag, index)));
    const said = this.preview ?? this.info?.edits[edit.name] ?? {};
    Page.#at('problem').textContent = said.problem ?? '';
    Page.#at('remarks').replaceChildren(...(said.notes ?? []).map((note) => Page.#make('li', note)));
  }

  /** Set the text of a field, unless somebody is typing what it means. */
  #fill(id, value) {
    const field = Page.#at(id);
    if (document.activeElement !== field && field.value !== value) field.value = value;
  }

  #dragItem({handle, target}, index) {
    const item = Page.#make('li');
    const show = Page.#make('button', `${handle.join(', ')} → ${target.join(', ')}`, {type: 'button'});
    show.addEventListener('click', () => this.picture.focus(index, 'target'));
    const remove = Page.#make('button', '×', {type: 'button', ariaLabel: `Delete arrow ${index + 1}`});
    remove.addEventListener('click', () => this.picture.on.remove(index));
    item.append(show, remove);
    return item;
  }

  #showEdits(edits) {
    Page.#at('name').textContent = this.image ?? '';
    Page.#at('notes').replaceChildren(...(this.info?.notes ?? []).map((note) => Page.#make('li', note)));
    Page.#at('edits').replaceChildren(...edits.map((edit) => {
      const {verdict, problem} = this.info?.edits[edit.name] ?? {};
      const mark = problem ? ' – cannot be done yet' : verdict ? ` – ${verdict}` : '';
      const text = `${edit.fields.id ?? edit.name}, ${this.#drags(edit).length} →${mark}`;
      const button = Page.#make('button', text, {ariaPressed: String(edit.name === this.selected)});
      button.addEventListener('click', () => this.#select(edit.name));
      const item = Page.#make('li');
      item.append(button);
      return item;
    }));
    Page.#at('add').disabled = this.image === null;
    Page.#at('remove').disabled = !this.#edit;
  }

  #showConflicts() {
    const broken = this.edits.list.filter((edit) => !edit.fields);
    Page.#at('conflicts').replaceChildren(
      ...this.conflicts.map((conflict) => this.#conflictLine(conflict)),
      ...broken.map(({problem}) => Page.#make('p', `In the edits file, ${problem}`, {className: 'so-so text'})),
    );
  }

  #conflictLine(conflict) {
    const line = Page.#make('p', `${conflict.reason} `, {className: 'bad text'});
    for (const [text, isOurs] of [['Keep mine', true], ['Take theirs', false]]) {
      const button = Page.#make('button', text, {type: 'button'});
      button.addEventListener('click', () => this.#settle(conflict, isOurs));
      line.append(button, ' ');
    }
    return line;
  }

  #showList() {
    const counts = new Map();
    for (const {fields, removed} of this.edits.list) {
      if (fields && !removed) counts.set(fields.image, (counts.get(fields.image) ?? 0) + 1);
    }
    const done = this.images.filter(({name}) => counts.has(name)).length;
    Page.#at('counts').textContent = `${done} of ${this.images.length} have edits`;
    const listed = this.#listed();
    const shown = listed.slice(0, Page.#MOST_LISTED);
    const items = shown.map(({name}) => {
      const count = counts.get(name);
      const button = Page.#make('button', `${name}${count ? ` (${count})` : ''}`);
      if (name === this.image) button.setAttribute('aria-current', 'true');
      button.addEventListener('click', () => {
        window.scrollTo(0, 0); // the list may lie below the picture
        this.#open(name);
      });
      const item = Page.#make('li');
      item.append(button);
      return item;
    });
    if (listed.length > shown.length) {
      items.push(Page.#make('li', `and ${listed.length - shown.length} more: filter by name`));
    }
    Page.#at('list').replaceChildren(...items);
  }

  // Hands

  #listen() {
    const click = {
      save: () => this.#save(),
      undo: () => this.#back(() => this.edits.undo()),
      redo: () => this.#back(() => this.edits.redo()),
      smaller: () => this.picture.zoom(this.picture.scale / 1.25),
      larger: () => this.picture.zoom(this.picture.scale * 1.25),
      fit: () => this.picture.fit(),
      whole: () => this.picture.zoom(1),
      add: () => this.#add(),
      remove: () => this.#back(() => this.edits.remove(this.selected)),
      take: () => this.#painted(this.preview.mask),
      unmask: () => this.#back(() => this.#unmask()),
      try: () => this.#try(),
      stop: () => this.#tell(() => this.#ask('stop', {})),
    };
    for (const [id, hear] of Object.entries(click)) Page.#at(id).addEventListener('click', hear);
    for (const button of document.querySelectorAll('.mode')) {
      button.addEventListener('click', () => this.#setMode(button.dataset.mode));
    }
    this.#setMode('draw');
    Page.#at('brush').addEventListener('input', ({target}) => { this.picture.brush = Number(target.value); });
    Page.#at('filter').addEventListener('input', () => this.#showList());
    Page.#at('form').addEventListener('submit', (event) => event.preventDefault());
    Page.#at('id').addEventListener('input', ({target}) => this.#set('id', target.value));
    Page.#at('prompt').addEventListener('input', ({target}) => this.#set('prompt', target.value));
    Page.#at('tags').addEventListener('input', ({target}) => {
      const tags = target.value.split(',').map((tag) => tag.trim()).filter(Boolean);
      this.#set('tags', tags.length ? tags : undefined);
    });
    document.addEventListener('keydown', (event) => this.#key(event));
    window.addEventListener('beforeunload', (event) => {
      if (this.edits.changes().length) event.preventDefault();
    });
  }

  #back(change) {
    change();
    this.preview = null;
    this.#look();
  }

  #unmask() {
    const {fields} = this.#edit;
    const {mask, ...others} = fields;
    this.edits.change(this.selected, {paint: undefined, fields: others});
  }

  #setMode(mode) {
    this.picture.mode = mode;
    for (const button of document.querySelectorAll('.mode')) {
      button.setAttribute('aria-pressed', String(button.dataset.mode === mode));
    }
  }

  #setBrush(by) {
    const brush = Page.#at('brush');
    brush.value = Number(brush.value) + by;
    this.picture.brush = Number(brush.value);
  }

  #key(event) {
    const isTyping = event.target.matches('input, textarea');
    const {key} = event;
    if (event.ctrlKey || event.metaKey) {
      const held = {s: 'save', z: event.shiftKey ? 'redo' : 'undo', Z: 'redo', y: 'redo'}[key];
      if (!held || (isTyping && key !== 's')) return;
      event.preventDefault();
      Page.#at(held).click();
    } else if (!isTyping && !event.altKey) {
      const pressed = {'+': 'larger', '=': 'larger', '-': 'smaller', 0: 'fit', 1: 'whole', m: 'add', t: 'try'}[key];
      const mode = {a: 'draw', b: 'paint', e: 'erase'}[key];
      const by = {n: 1, j: 1, p: -1, k: -1}[key];
      if (pressed) Page.#at(pressed).click();
      else if (mode) document.querySelector(`[data-mode=${mode}]`).click();
      else if (by) this.#next(by);
      else if (key === '[' || key === ']') this.#setBrush(key === '[' ? -4 : 4);
      else return;
      event.preventDefault();
    }
  }
}

new Page();
