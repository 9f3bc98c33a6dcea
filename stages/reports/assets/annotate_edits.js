'use strict';
/* The edits of a job as the page has them: what was read, what has changed since, undo and redo.
 *
 * An edit is {name, fields, problem, paint, seen, removed} and never changed in place, so that a
 * list of edits is a state to go back to. `fields` are the keys that the page may change, as they
 * stand in the file; `paint` is a painted mask as a data URL, over the mask of digest `seen`.
 */
class Edits {
  constructor() {
    this.list = [];
    this.base = new Map();   // fields as they were read, by name
    this.theirs = new Map(); // fields as the file had them last, by name
    this.past = [];
    this.future = [];
    this.last = null;        // what the last change was of: changes of one text are undone together
  }

  of(name) { return this.list.find((edit) => edit.name === name); }

  ofImage(image) {
    return this.list.filter((edit) => !edit.removed && edit.fields?.image === image);
  }

  /** Take in the lines of the file: what was not changed here becomes what it is there.
   *
   * After a save, `sent` are the changes, `names` those of lines that have others now, and
   * `conflicts` what stays unsaved until it is settled.
   */
  read(lines, {sent = [], names = {}, conflicts = []} = {}) {
    const theirs = new Map(lines.map((line) => [line.name, line]));
    const isStuck = (name, key) => conflicts.some((each) => each.name === name && each.key === key);
    const masks = new Map(sent.filter(({name, mask}) => mask && !isStuck(name, 'mask'))
      .map(({name, mask}) => [name, mask]));
    const gone = new Set(sent.filter(({after}) => !after).map(({name}) => name));
    const ours = new Set(sent.filter(({after}) => after).flatMap(({name, before, after, mask}) => (
      Edits.#keys(before, after)
        .filter((key) => !Edits.#same(before?.[key], after[key]) || (mask && key === 'mask'))
        .map((key) => `${name} ${key}`))));
    const saved = {masks, gone, ours};
    const rebased = new Map();
    const takenIn = (list) => {
      for (const edit of list) {
        if (!rebased.has(edit)) rebased.set(edit, this.#rebased(edit, theirs, names, saved));
      }
      const kept = list.map((edit) => rebased.get(edit)).filter(Boolean);
      const known = new Set(kept.map((edit) => edit.name));
      return [...kept, ...lines.filter((line) => !known.has(line.name))];
    };
    this.list = takenIn(this.list);
    this.past = this.past.map(takenIn);
    this.future = this.future.map(takenIn);
    const base = new Map(lines.filter(({fields}) => fields).map(({name, fields}) => [name, fields]));
    for (const {name} of this.list) {
      if (!base.has(name) && this.base.has(name) && !gone.has(name)) base.set(name, this.base.get(name));
    }
    for (const {name, key} of conflicts) {
      if (key && base.has(name)) base.set(name, Edits.#with(base.get(name), key, this.base.get(name)?.[key]));
    }
    [this.base, this.theirs, this.last] = [base, theirs, null];
    return [...masks.keys()].map((name) => names[name] ?? name);
  }

  #rebased(edit, theirs, names, {masks, gone, ours}) {
    const name = names[edit.name] ?? edit.name;
    const [there, before] = [theirs.get(name), this.base.get(edit.name)];
    if (!edit.fields) return there ?? null;
    if (edit.removed) return {...edit, name};
    if (!there) {
      const isOurs = !before || gone.has(edit.name) || edit.paint || !Edits.#same(edit.fields, before);
      return isOurs ? edit : null;
    }
    const isPainted = edit.paint && Edits.bytes(edit.paint) === masks.get(edit.name);
    if (isPainted) edit = {...edit, paint: undefined};
    let {fields} = there; // the same object as long as nothing differs
    for (const key of Edits.#keys(edit.fields, fields)) {
      const isTheirs = (key === 'id' && edit.name in names) || (key === 'mask' && isPainted);
      const own = edit.fields[key];
      const isOurs = ours.has(`${edit.name} ${key}`) || !Edits.#same(own, before?.[key]);
      if (!isTheirs && isOurs && !Edits.#same(own, fields[key])) fields = Edits.#with(fields, key, own);
    }
    return {...edit, name, fields};
  }

  /** Note the digest of the mask of an edit as this page has saved it. */
  saw(name, digest) {
    const noted = (list) => list.map((edit) => (edit.name === name ? {...edit, seen: digest} : edit));
    this.list = noted(this.list);
    this.past = this.past.map(noted);
    this.future = this.future.map(noted);
  }

  /** Return what has to be saved. */
  changes() {
    const found = [];
    for (const {name, fields, removed, paint, seen} of this.list) {
      const before = this.base.get(name) ?? null;
      const mask = paint ? {mask: Edits.bytes(paint), seen: seen ?? null} : {};
      if (removed) {
        if (before) found.push({name, before, after: null});
      } else if (fields && (!before || paint || !Edits.#same(fields, before))) {
        found.push({name, before, after: fields, ...mask});
      }
    }
    return found;
  }

  /** Replace an edit; consecutive changes of one `kind` of one edit are one step of undo. */
  change(name, changed, kind = null) {
    const of = kind && `${name} ${kind}`;
    const list = this.list.map((edit) => (edit.name === name ? {...edit, ...changed} : edit));
    this.#step(list, of);
  }

  /** Set fields of an edit; those that are undefined go. */
  set(name, values, kind = null) {
    let {fields} = this.of(name);
    for (const [key, value] of Object.entries(values)) fields = Edits.#with(fields, key, value);
    this.change(name, {fields}, kind);
  }

  /** End what is undone in one step. */
  rest() { this.last = null; }

  add(image, stem) {
    const taken = new Set(this.list.flatMap(({name, fields}) => [name, fields?.id])
      .map((id) => String(id).toLowerCase()));
    let id = stem;
    for (let number = 2; taken.has(id.toLowerCase()); number += 1) id = `${stem}-${number}`;
    this.#step([...this.list, {name: id, fields: {id, image, prompt: '', drags: []}}]);
    return id;
  }

  remove(name) { this.change(name, {removed: true}); }

  /** Settle a conflict: what is here is to be saved over what is there, or is given up. */
  settle({name, key}, isOurs, seen) {
    const there = this.theirs.get(name);
    if (!key && isOurs) this.base.delete(name);
    else if (!key) this.list = this.list.filter((edit) => edit.name !== name);
    else {
      this.base.set(name, Edits.#with(this.base.get(name), key, there.fields[key]));
      const own = this.of(name).fields;
      const fields = isOurs ? own : Edits.#with(own, key, there.fields[key]);
      const paint = key !== 'mask' ? {} : isOurs ? {seen} : {paint: undefined};
      this.list = this.list.map((edit) => (
        edit.name === name ? {...edit, fields, removed: edit.removed && isOurs, ...paint} : edit));
    }
    this.last = null;
  }

  undo() { this.#go(this.past, this.future); }

  redo() { this.#go(this.future, this.past); }

  #go(from, to) {
    if (!from.length) return;
    to.push(this.list);
    this.list = from.pop();
    this.last = null;
  }

  #step(list, of = null) {
    if (!of || of !== this.last) this.past.push(this.list);
    if (this.past.length > 200) this.past.shift();
    this.list = list;
    this.future = [];
    this.last = of;
  }

  /** Return what a data URL holds, as base64. */
  static bytes(url) { return url.slice(url.indexOf(',') + 1); }

  static #keys(one, other) {
    return [...new Set([...Object.keys(one ?? {}), ...Object.keys(other), 'mask'])];
  }

  static #with(fields, key, value) {
    const {[key]: _, ...others} = fields;
    if (value === undefined) return others;
    return key in fields ? {...fields, [key]: value} : {...others, [key]: value};
  }

  static #same(one, other) { return one === other || Edits.#text(one) === Edits.#text(other); }

  static #text(value) {
    if (!value || typeof value !== 'object' || Array.isArray(value)) return JSON.stringify(value);
    return JSON.stringify(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)));
  }
}
