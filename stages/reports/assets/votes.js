'use strict';

/* Thumbs and notes of a job's edits. They are kept in the browser, each by itself, so that two tabs
   keep each other's; as a file they are lines
   {"id": …, "vote": "up"|"down"|null, "note": "…", "result": "…"}.
   `result` names the picture that they are of: one that is made later has no vote yet. */
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

  /** Return {vote, note} of the picture that a row shows. */
  of(row) {
    const said = this.kept.get(row.id);
    return said && said.result === row.result ? said : {vote: null, note: ''};
  }

  /** Return what is said of a picture that was there before the one that a row shows, if anything is. */
  earlier(row) {
    const said = this.kept.get(row.id);
    return said && said.result !== row.result ? said : null;
  }

  /** Change the vote or the note of the picture that a row shows. */
  set(row, change) {
    const {id, result} = row;
    const said = {...this.of(row), result, ...change};
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

  /** Return the votes on the pictures that rows show as JSON lines, and how many others there are. */
  lines(rows) {
    const voted = rows.filter((row) => this.kept.has(row.id) && !this.earlier(row));
    const lines = voted.map((row) => `${JSON.stringify({id: row.id, ...this.of(row)})}\n`);
    return {lines, others: this.kept.size - lines.length};
  }

  /** Take votes from a file on rows by id; return what could not be taken, a line each. */
  load(text, known) {
    return text.split('\n').flatMap((line, index) => {
      if (!line.trim()) return [];
      const said = parsed(line);
      const place = `line ${index + 1}`;
      if (said === null) return [`${place} is no vote`];
      if (!known.has(said.id)) return [`${place}: this job has no edit ${said.id}`];
      const {id, ...vote} = said;
      this.set(known.get(id), vote);
      return [];
    });
  }
}

/** Return a line's id, vote, note and result, if it has one; null if it is no vote. */
function parsed(line) {
  try {
    const {id, vote = null, note, result} = JSON.parse(line);
    const isVote = typeof id === 'string' && [null, 'up', 'down'].includes(vote) && ['string', 'undefined'].includes(typeof (note ?? undefined));
    return isVote ? {id, vote, note: note ?? '', ...(result && {result})} : null;
  } catch {
    return null;
  }
}
