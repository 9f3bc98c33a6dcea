'use strict';

/* Thumbs and notes of a job's edits. They are kept in the browser, each by itself, so that two tabs
   keep each other's; as a file they are lines {"id": …, "vote": "up"|"down"|null, "note": "…"}. */
class Votes {
  constructor(job) {
    this.prefix = `adaptivedrag/${job}/`;
    this.kept = new Map();
    this.trouble = '';
    this.read();
    window.addEventListener('storage', () => this.read());
  }

  /** Read what the browser keeps. */
  read() {
    this.kept.clear();
    try {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith(this.prefix)) this.kept.set(key.slice(this.prefix.length), JSON.parse(localStorage[key]));
      }
    } catch (error) {
      this.trouble = `votes are kept until this page is closed only: ${error.message}`;
    }
  }

  /** Return {vote, note} of an edit. */
  of(id) {
    return this.kept.get(id) ?? {vote: null, note: ''};
  }

  /** Change the vote or the note of an edit. */
  set(id, change) {
    const said = {...this.of(id), ...change};
    const isEmpty = said.vote === null && said.note === '';
    if (isEmpty) this.kept.delete(id);
    else this.kept.set(id, said);
    try {
      if (isEmpty) localStorage.removeItem(this.prefix + id);
      else localStorage.setItem(this.prefix + id, JSON.stringify(said));
    } catch (error) {
      this.trouble = `the browser keeps no more votes (${error.message}): download them`;
    }
  }

  /** Return all votes as JSON lines, in the order of the ids. */
  lines(ids) {
    const voted = ids.filter((id) => this.kept.has(id));
    return voted.map((id) => `${JSON.stringify({id, ...this.of(id)})}\n`).join('');
  }

  /** Take votes from a file; return what could not be taken, a line each. */
  load(text, ids) {
    const known = new Set(ids);
    return text.split('\n').flatMap((line, index) => {
      if (!line.trim()) return [];
      const said = parsed(line);
      const place = `line ${index + 1}`;
      if (said === null) return [`${place} is no vote`];
      if (!known.has(said.id)) return [`${place}: this job has no edit ${said.id}`];
      this.set(said.id, {vote: said.vote, note: said.note});
      return [];
    });
  }
}

/** Return a line's id, vote and note, or null if it is no vote. */
function parsed(line) {
  try {
    const {id, vote = null, note = ''} = JSON.parse(line);
    const isVote = typeof id === 'string' && [null, 'up', 'down'].includes(vote) && typeof note === 'string';
    return isVote ? {id, vote, note} : null;
  } catch {
    return null;
  }
}
