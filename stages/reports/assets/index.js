'use strict';

/* The index page: rows are read file after file, filtered, sorted and shown, 100 to a page. The
   address after # says what is shown. */
(() => {
  const settings = JSON.parse(document.getElementById('settings').textContent);
  const [part, form, said, grid, pager, dialog, help] = ['edits', 'filters', 'said', 'grid', 'pager', 'viewer', 'help']
    .map((id) => document.getElementById(id));
  const votes = new Votes(settings.job);

  // Rows

  const rows = [];
  const known = new Map();
  const troubles = [];
  let isRead = !settings.files.length;

  window.rows = (_number, read) => {
    for (const row of read) {
      if (known.has(row.id)) continue;
      row.place = rows.length;
      row.words = [row.id, row.prompt, row.reason, row.sentence, ...(row.tags ?? []), ...(row.notes ?? []),
        ...(row.warnings ?? []), ...(row.outliers ?? [])].join('\n').toLowerCase();
      known.set(row.id, row);
      rows.push(row);
    }
  };

  // Filters and orders

  const WORST = {fix: 5, again: 4, drop: 3, look: 2, keep: 1, wait: 0};
  const ORDERS = {
    job: ['as in the job', (row) => row.place],
    worst: ['worst', (row) => WORST[row.advice] * 1e6 + (row.relative ?? 0) * 1e3 + (row.outside ?? 0)],
    distance: ['distance to the target', (row) => row.distance],
    relative: ['distance / drag length', (row) => row.relative],
    outside: ['change outside the mask', (row) => row.outside],
    seconds: ['seconds', (row) => row.seconds],
    score: ['score', (row) => row.score],
    name: ['name', (row) => row.id],
  };

  const reasonOf = (row) => (row.stage ? `${row.stage}: ${row.kind}` : row.status === 'bad' ? 'cannot be read' : '');
  const FILTERS = {
    advice: ['what to do', (row) => [row.advice]],
    status: ['status', (row) => [row.status]],
    verdict: ['verdict', (row) => [row.verdict]],
    tag: ['tag', (row) => row.tags ?? []],
    failed: ['failed in', (row) => [row.stage]],
    made: ['stage made', (row) => row.made?.map((index) => settings.stages[index]) ?? []],
    reason: ['reason', (row) => [reasonOf(row)]],
    unusual: ['unusual', (row) => [row.outliers ? 'yes' : '']],
    vote: ['vote', (row) => {
      const {vote, note} = votes.of(row);
      return [vote ?? 'none', note ? 'with a note' : '', votes.earlier(row) ? 'on an earlier picture' : ''];
    }],
  };

  let chosen = {key: '', rows: []};

  /** Return the rows that the state asks for, in its order. */
  function choose(wanted) {
    const {page, edit, ...rest} = wanted;
    const key = JSON.stringify([rest, rows.length, 'vote' in rest && [...votes.kept]]);
    if (chosen.key !== key) chosen = {key, rows: sorted(filtered(rest), rest)};
    return chosen.rows;
  }

  function filtered(wanted) {
    const filters = Object.entries(FILTERS).filter(([name]) => wanted[name]);
    const words = (wanted.text ?? '').toLowerCase();
    return rows.filter((row) => row.words.includes(words)
      && filters.every(([name, [, values]]) => values(row).includes(wanted[name])));
  }

  const names = new Intl.Collator('en', {numeric: true});

  function sorted(found, {sort = 'job', up}) {
    const value = (ORDERS[sort] ?? ORDERS.job)[1];
    const isAscending = ['job', 'name'].includes(sort) !== Boolean(up);
    const sign = isAscending ? 1 : -1;
    const having = found.filter((row) => value(row) !== undefined);
    const lacking = found.filter((row) => value(row) === undefined);
    const compare = sort === 'name' ? (a, b) => names.compare(a.id, b.id) : (a, b) => value(a) - value(b);
    return having.sort((a, b) => sign * compare(a, b) || a.place - b.place).concat(lacking);
  }

  // The form

  const choices = {};
  const voting = node('fieldset', 'buttons');

  function buildForm() {
    const text = node('input');
    Object.assign(text, {type: 'search', name: 'text', placeholder: 'id, prompt, tag, reason, note'});
    text.addEventListener('input', () => go({text: text.value, page: ''}, {replaces: true}));
    form.append(labeled('text', text));
    for (const [name, [title]] of Object.entries(FILTERS)) {
      choices[name] = choice(name, title, (value) => go({[name]: value, page: ''}));
    }
    const order = choice('sort', 'order', (value) => go({sort: value, up: '', page: ''}));
    order.replaceChildren(...Object.entries(ORDERS).map(([name, [title]]) => new Option(title, name === 'job' ? '' : name)));
    const turn = button('reverse', () => go({up: state().up ? '' : '1', page: ''}));
    const worst = button('worst first', () => go({sort: 'worst', up: '', page: ''}));
    const clear = button('clear', () => go(Object.fromEntries(Object.keys(state()).map((name) => [name, '']))));
    const keys = button('keys', () => help.showModal());
    voting.append(button('download votes', download), loader());
    voting.disabled = !isRead;
    form.append(filled(node('div', 'buttons'), turn, worst, clear, keys));
    form.append(voting);
    form.addEventListener('submit', (event) => event.preventDefault());
    form.parentElement.open = window.innerWidth > 700;
  }

  function choice(name, title, change) {
    const control = select(name, [], change);
    form.append(labeled(title, control));
    return control;
  }

  /** Offer the values of a filter with how many rows have each. */
  function fillChoice(name) {
    const counts = new Map();
    for (const row of rows) {
      for (const value of FILTERS[name][1](row)) if (value) counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    const wanted = state()[name];
    if (wanted && !counts.has(wanted)) counts.set(wanted, 0);
    const options = [...counts].sort((a, b) => b[1] - a[1]).map(([value, number]) => new Option(`${value} (${number})`, value));
    choices[name].replaceChildren(new Option('any', ''), ...options);
    choices[name].parentElement.hidden = !options.length;
  }

  /** Show what votes have changed. */
  function voted() {
    fillChoice('vote');
    show();
  }

  // The grid

  let shownCells = '';

  function show() {
    const wanted = state();
    const found = choose(wanted);
    const here = paged(found, pager, grid);
    for (const control of form.elements) if (control.name) control.value = wanted[control.name] ?? '';
    say(found.length);
    showCells(here);
    showEdit(wanted.edit);
  }

  function say(number) {
    const read = rows.length < settings.total ? `; ${rows.length} of ${settings.total} edits are read` : '';
    const shown = number === settings.total ? `${number} edits` : `${number} of ${settings.total} edits`;
    said.textContent = [`${shown}${read}`, ...troubles, votes.trouble].filter(Boolean).join(' · ');
  }

  function showCells(here) {
    const key = JSON.stringify(here.map((row) => [row.id, votes.of(row)]));
    if (key !== shownCells) grid.replaceChildren(...here.map(cell));
    else for (const [index, link] of [...grid.querySelectorAll('a')].entries()) link.href = address({edit: here[index].id});
    shownCells = key;
  }

  function cell(row) {
    const link = node('a', `cell ${row.advice}`);
    link.href = address({edit: row.id});
    link.dataset.id = row.id;
    const picture = node('div', 'thumb');
    const source = row.thumbs?.after ?? row.thumbs?.before;
    if (source) {
      const image = node('img');
      Object.assign(image, {loading: 'lazy', alt: `${row.thumbs.after ? 'after' : 'before'}: ${row.id}`, src: source});
      const sheet = node('div', 'sheet');
      sheet.style.aspectRatio = `${row.width} / ${row.height}`;
      sheet.style.setProperty('--ratio', row.width / row.height);
      picture.append(filled(sheet, image, arrows(row)));
    }
    const {vote, note} = votes.of(row);
    const marks = [vote === 'up' && '▲', vote === 'down' && '▼', note && '✎'].filter(Boolean).join(' ');
    return filled(node('li'), filled(link, picture, node('span', 'name', row.id),
      filled(node('span', 'line'), node('span', `advice ${row.advice}`, verdict(row)), node('span', 'marks', marks))));
  }

  /** Say in a few words how an edit ended. */
  function verdict(row) {
    const relative = row.relative === undefined ? '' : ` · ${Math.round(100 * row.relative)}% left`;
    const earlier = row.earlier ? ' · earlier settings' : '';
    return `${row.verdict ?? row.status}${relative}${row.outliers ? ' · unusual' : ''}${earlier}`;
  }

  // One edit

  const panel = {};

  function buildPanel() {
    panel.facts = node('div');
    panel.up = button('▲ up (u)', () => vote('up'));
    panel.down = button('▼ down (d)', () => vote('down'));
    panel.note = node('textarea');
    panel.note.rows = 3;
    panel.note.addEventListener('input', () => { votes.set(known.get(state().edit), {note: panel.note.value}); });
    panel.note.addEventListener('change', voted);
    panel.verdict = node('div');
    panel.earlier = node('p', 'text so-so');
    return filled(node('aside'), panel.verdict, panel.earlier, filled(node('div', 'buttons'), panel.up, panel.down),
      labeled('note (n)', panel.note), panel.facts);
  }

  const one = new EditDialog(dialog, grid, buildPanel(), () => choose(state()));

  function showEdit(id) {
    const row = known.get(id);
    if (row) showVote(row);
    else if (id && rows.length === settings.total) said.textContent += ` · there is no edit ${id}`;
    one.show(row, row && view(row), () => {
      panel.note.value = votes.of(row).note;
      panel.verdict.replaceChildren(...explained(row));
      panel.facts.replaceChildren(...facts(row));
    });
  }

  function showVote(row) {
    const {vote: given} = votes.of(row);
    panel.up.setAttribute('aria-pressed', given === 'up');
    panel.down.setAttribute('aria-pressed', given === 'down');
    panel.earlier.textContent = ofEarlier(row);
  }

  function view(row) {
    const overlays = Object.entries(row.overlays ?? {}).map(([title, over]) => (
      {title, over, src: over && row.source, hole: 'not made'}));
    const layers = [
      {title: 'before', src: row.source, hole: 'the image cannot be shown'},
      ...overlays,
      {title: 'after', src: row.image, hole: row.reason ?? 'not made'},
      {title: 'difference', src: row.image && row.source, over: row.image, blend: 'difference'},
      {title: 'truth', src: row.truth, hole: 'not known'},
    ];
    const right = layers.findIndex((layer) => layer.title === 'after');
    return {name: row.id, width: row.width ?? 1, height: row.height ?? 1, layers, left: 0, right, drags: row.drags, ends: row.ends};
  }

  function facts(row) {
    const number = (value, digits, unit) => (value === undefined ? undefined : `${value.toFixed(digits)} ${unit}`);
    const share = (value) => (value === undefined ? undefined : `${(100 * value).toFixed(1)}%`);
    const found = [
      ['prompt', row.prompt], ['tags', row.tags?.join(', ')], ['left to the target', number(row.distance, 1, 'px')],
      ['of the drag', share(row.relative)], ['change outside the mask', number(row.outside, 2, 'levels')],
      ['mask', share(row.mask_share)], [row.scored_by?.replace('_', ' '), number(row.score, 3, '')], ['tracker', row.tracker],
      ['steps', row.steps && `${row.steps} of ${row.budget}`], ['work', number(row.seconds, 1, 's')],
      ['size', row.width && `${row.width}×${row.height}`],
      ...Object.entries(row.off ?? {}).map(([stage, why]) => [`${stage} is off`, why]),
      ...(row.notes ?? []).map((note) => ['note', note]), ...(row.warnings ?? []).map((text) => ['warning', text]),
    ].filter(([, value]) => value);
    const table = filled(node('table'), ...found.map(([name, value]) => {
      const head = node('th', '', name);
      head.scope = 'row';
      return filled(node('tr'), head, node('td', 'text', value));
    }));
    const links = [[row.image, 'edited image'], [row.source, 'image'], [row.page, 'all about this edit']].filter(([to]) => to);
    const list = filled(node('p', 'links'), ...links.map(([to, title]) => Object.assign(node('a', '', title), {href: to})));
    return [list, table];
  }

  function explained(row) {
    return [node('p', `advice ${row.advice}`, `${row.advice}: ${verdict(row)}`), node('p', 'text', row.sentence),
      ...(row.outliers ?? []).map((text) => node('p', 'text so-so', `Unusual: ${text}.`))];
  }

  function ofEarlier(row) {
    const said = votes.earlier(row);
    return said ? `Of an earlier picture you said: ${[said.vote, said.note].filter(Boolean).join(', ')}.` : '';
  }

  // Votes

  function vote(given) {
    const id = state().edit || document.activeElement?.dataset?.id;
    if (!id) return;
    const row = known.get(id);
    votes.set(row, {vote: votes.of(row).vote === given ? null : given});
    const isFocused = document.activeElement?.dataset?.id === id;
    voted();
    if (isFocused) grid.querySelector(`[data-id="${CSS.escape(id)}"]`)?.focus();
  }

  function download() {
    const {lines, others} = votes.lines(rows);
    const link = node('a');
    link.href = URL.createObjectURL(new Blob(lines, {type: 'application/jsonl'}));
    link.download = `${settings.name}-votes.jsonl`;
    link.click();
    URL.revokeObjectURL(link.href);
    if (others) said.textContent += ` · left out are votes on earlier pictures or on edits that are not here: ${others}`;
  }

  function loader() {
    const file = node('input');
    Object.assign(file, {type: 'file', accept: '.jsonl,.json,.txt'});
    file.addEventListener('change', async () => {
      const refused = votes.load(await file.files[0].text(), known);
      file.value = '';
      voted();
      said.textContent += refused.length ? ` · ${refused.length} votes were not taken: ${refused.slice(0, 5).join('; ')}` : ' · votes are loaded';
    });
    return labeled('load votes', file);
  }

  // Keys

  const KEYS = {
    ...one.keys,
    u: ['thumb up', () => vote('up')],
    d: ['thumb down', () => vote('down')],
    n: ['write a note', () => panel.note.focus()],
    '?': ['these keys', () => help.showModal()],
  };

  function buildHelp() {
    const title = node('h2', '', 'Keys');
    title.id = 'help-title';
    const layers = 'before, superpixels, mask, paths, after, difference, truth';
    const lines = [...Object.entries(KEYS).map(([key, [words]]) => [key, words]), ['1 … 7', layers],
      ['Enter', 'open the edit in focus'], ['Escape', 'leave the note, close the edit']];
    const table = filled(node('table'), ...lines.map(([key, words]) => filled(node('tr'), node('th', '', key), node('td', '', words))));
    help.append(title, table, button('close', () => help.close()));
  }

  // A run that goes on: the page is loaded again while nobody looks at an edit or types.
  function renew() {
    const isBusy = dialog.open || help.open || document.activeElement?.matches('input, select');
    if (isBusy || !isRead) return;
    history.replaceState({id: document.activeElement?.dataset?.id, y: window.scrollY}, '');
    location.reload();
  }

  /** Go where one was before the page was loaded again. */
  function comeBack() {
    const {id, y} = history.state ?? {};
    if (id) grid.querySelector(`[data-id="${CSS.escape(id)}"]`)?.focus({preventScroll: true});
    if (y) window.scrollTo(0, y);
  }

  part.hidden = false;
  buildForm();
  buildHelp();
  window.addEventListener('hashchange', show);
  window.addEventListener('storage', voted);
  listen(KEYS, one.viewer, () => dialog.open);
  if (settings.refresh) setInterval(renew, 1000 * settings.refresh);
  show();
  readFiles(settings.files, grid, ({missing, isFirst, isLast}) => {
    if (missing) troubles.push(`${missing} is missing: write the report again`);
    if (isFirst || isLast) Object.keys(FILTERS).forEach(fillChoice);
    show();
    isRead = isLast;
    voting.disabled = !isRead;
    if (isFirst) comeBack();
  });
})();
