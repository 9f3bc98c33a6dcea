'use strict';

/* What pages with a list of edits share. The address after # says what is shown; rows are read file
   after file, since a browser refuses `fetch` for addresses file://. */
const PER_PAGE = 100;

/** Return what the address says: filters, text, order, page, edit. */
function state() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

/** Return the address of a state that is changed; what is empty is left out. */
function address(change) {
  const changed = Object.entries({...state(), ...change}).filter(([, value]) => value);
  return `#${new URLSearchParams(changed)}`;
}

/** Go to a changed state; a step that is replaced is none that "back" leads to. */
function go(change, {replaces = false} = {}) {
  if (replaces) location.replace(address(change));
  else location.hash = address(change);
  // At once: the browser says it later, when the next key may have been pressed.
  window.dispatchEvent(new Event('hashchange'));
}

/** Read files of rows, one after another; the pictures of the first ones come before the other files.

   `next` hears of each file: {missing: its name if it is not there, isFirst, isLast}. */
function readFiles(files, list, next, index = 0) {
  if (index === files.length) return;
  const script = document.createElement('script');
  const read = (missing) => {
    script.remove();
    next({missing, isFirst: index === 0, isLast: index + 1 === files.length});
    const goOn = () => readFiles(files, list, next, index + 1);
    if (index) setTimeout(goOn);
    else whenSeen(list, goOn);
  };
  script.onload = () => read();
  script.onerror = () => read(files[index].split('?')[0]);
  script.src = files[index];
  document.body.append(script);
}

/** Call back when the pictures of a list that are on the screen are there, or do not come. */
function whenSeen(list, goOn, tries = 100) {
  const isThere = (image) => image.complete || image.getBoundingClientRect().top > window.innerHeight;
  if (!tries || [...list.querySelectorAll('img')].every(isThere)) setTimeout(goOn, 100);
  else setTimeout(whenSeen, 30, list, goOn, tries - 1);
}

/** Cut what is found into pages, fill the pager, and return what is on the page that is asked for. */
function paged(found, pager, list) {
  const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
  const page = Math.min(Math.max(1, Number(state().page) || 1), pages);
  const to = (title, number) => {
    const made = button(title, () => { go({page: String(number)}); list.scrollIntoView(); });
    made.disabled = number < 1 || number > pages || number === page;
    return made;
  };
  pager.replaceChildren(to('first', 1), to('previous', page - 1), node('span', '', `page ${page} of ${pages}`),
    to('next', page + 1), to('last', pages));
  pager.hidden = pages === 1;
  return found.slice((page - 1) * PER_PAGE, page * PER_PAGE);
}

function button(title, press) {
  const made = node('button', '', title);
  made.type = 'button';
  made.addEventListener('click', press);
  return made;
}

function labeled(title, control) {
  return filled(node('label', '', title), control);
}

/** Return a control with choices; `choices` are pairs of a value and its words. */
function select(name, choices, change) {
  const control = node('select');
  control.name = name;
  control.replaceChildren(...choices.map(([value, words]) => new Option(words, value)));
  control.addEventListener('change', () => change(control.value));
  return control;
}

/** The dialog of one edit of a list: its pictures, what is told beside them, the way to its neighbors. */
class EditDialog {
  /** `choose` returns the rows of the list in their order; `aside` is what is told. */
  constructor(dialog, list, aside, choose) {
    Object.assign(this, {dialog, list, choose, opened: '', shown: ''});
    this.title = node('h2');
    this.title.id = 'viewer-title';
    this.place = node('span', 'faint');
    const head = filled(node('div', 'head'), this.title, this.place, button('k: previous', () => this.move(-1)),
      button('j: next', () => this.move(1)), button('close', () => dialog.close()));
    const host = node('div', 'host');
    dialog.append(head, filled(node('div', 'sides'), host, aside));
    dialog.addEventListener('close', () => { if (state().edit) go({edit: ''}); });
    this.viewer = new Viewer(host);
  }

  /** Show an edit, or close where there is none; `tell` fills the aside where other pictures are shown. */
  show(row, pictures, tell) {
    if (!row) {
      this.#close();
      return;
    }
    const found = this.choose();
    this.place.textContent = `${found.indexOf(row) + 1 || 'not one'} of ${found.length}`;
    const key = JSON.stringify(pictures);
    if (key === this.shown && this.dialog.open) return;
    Object.assign(this, {opened: row.id, shown: key});
    this.title.textContent = row.id;
    tell();
    if (!this.dialog.open) this.dialog.showModal();
    this.viewer.show(pictures);
  }

  #close() {
    if (this.dialog.open) this.dialog.close();
    if (this.opened) this.list.querySelector(`[data-id="${CSS.escape(this.opened)}"]`)?.focus();
    this.opened = '';
  }

  /** Show the edit before or after the one that is shown, or focus its neighbor in the list. */
  move(step) {
    if (this.dialog.open) {
      const found = this.choose();
      const next = found[found.findIndex((row) => row.id === this.opened) + step];
      const page = next && Math.floor(found.indexOf(next) / PER_PAGE) + 1;
      if (next) go({edit: next.id, page: page === 1 ? '' : String(page)}, {replaces: true});
      return;
    }
    const links = [...this.list.querySelectorAll('a')];
    links[links.indexOf(document.activeElement) + step]?.focus();
  }

  /** Return the keys of a list and its dialog: words and action by key. */
  get keys() {
    return {
      j: ['the next edit', () => this.move(1)],
      k: ['the previous edit', () => this.move(-1)],
      ...this.viewer.keys,
    };
  }
}
