'use strict';

/* The page of a comparison: edits that were made in several ways, sorted by how much a measure differs. */
(() => {
  const settings = JSON.parse(document.getElementById('settings').textContent);
  const [part, form, said, list, pager, dialog] = ['edits', 'filters', 'said', 'list', 'pager', 'viewer']
    .map((id) => document.getElementById(id));
  const {sides, metrics} = settings;
  const rows = [];
  const known = new Map();
  const troubles = [];

  window.rows = (_number, read) => {
    for (const row of read) {
      row.place = rows.length;
      row.words = [row.id, row.prompt, ...(row.tags ?? []), ...row.sides.map(({why}) => why)].join('\n').toLowerCase();
      known.set(row.id, row);
      rows.push(row);
    }
  };

  // What is compared

  const second = () => Math.min(Math.max(1, Number(state().side) || 1), sides.length - 1);
  const metricOf = (name) => metrics.find((metric) => metric.name === name) ?? metrics[0];
  const valueOf = (row, side, metric) => row.sides[side].values?.[metrics.indexOf(metric)] ?? undefined;

  /** Return by how much the second side differs from the first one; undefined if one of them has no value. */
  function difference(row, metric) {
    const [one, two] = [valueOf(row, 0, metric), valueOf(row, second(), metric)];
    return one === undefined || two === undefined ? undefined : two - one;
  }

  /** Say which side is nearer to the target. */
  function nearer(row) {
    const far = settings.nearer.map((index) => difference(row, metrics[index])).find((by) => by !== undefined);
    if (far === undefined) return 'unknown';
    if (Math.abs(far) < settings.as_near) return 'equally near';
    return sides[far < 0 ? second() : 0];
  }

  const saidOf = (row) => ({unknown: 'no distance is known of both', 'equally near': 'equally near'}[nearer(row)] ?? `nearer: ${nearer(row)}`);

  // Filters and order

  let chosen = {key: '', rows: []};

  function choose(wanted) {
    const {page, edit, ...rest} = wanted;
    const key = JSON.stringify([rest, rows.length]);
    if (chosen.key !== key) chosen = {key, rows: sorted(filtered(rest), rest)};
    return chosen.rows;
  }

  function filtered({text = '', nearer: which}) {
    const words = text.toLowerCase();
    return rows.filter((row) => row.words.includes(words) && (!which || nearer(row) === which));
  }

  function sorted(found, {by, order}) {
    const metric = metricOf(by);
    const worst = metric.better === 'lower' ? 1 : -1;
    const value = {
      job: (row) => -row.place,
      worse: (row) => worst * difference(row, metric),
      better: (row) => -worst * difference(row, metric),
    }[order] ?? ((row) => Math.abs(difference(row, metric)));
    const keyed = found.map((row) => [value(row), row]);
    const having = keyed.filter(([key]) => !Number.isNaN(key)).sort((a, b) => b[0] - a[0] || a[1].place - b[1].place);
    return [...having, ...keyed.filter(([key]) => Number.isNaN(key))].map(([, row]) => row);
  }

  // The form

  function buildForm() {
    const text = node('input');
    Object.assign(text, {type: 'search', name: 'text', placeholder: 'id, prompt, tag, reason'});
    text.addEventListener('input', () => go({text: text.value, page: ''}, {replaces: true}));
    form.append(labeled('text', text));
    if (sides.length > 2) form.append(labeled(`${sides[0]} and`, choice('side', sides.slice(1).map((name, index) => [index ? String(index + 1) : '', name]))));
    form.append(labeled('measure', choice('by', metrics.map(({name, title}, index) => [index ? name : '', title]))));
    form.append(labeled('nearer to the target', choice('nearer', [])));
    form.append(labeled('order', choice('order', ORDERS)));
    const turn = button('the other way', () => go({order: TURNED[state().order ?? ''], page: ''}));
    form.append(filled(node('div', 'buttons'), turn, button('clear', () => { location.hash = ''; })));
    form.addEventListener('submit', (event) => event.preventDefault());
  }

  const ORDERS = [['', 'most different first'], ['worse', 'worst first'], ['better', 'best first'], ['job', 'as in the table']];
  const TURNED = {'': 'worse', worse: 'better', better: 'worse', job: 'better'};
  const choice = (name, choices) => select(name, choices, (value) => go({[name]: value, page: ''}));

  let counted = '';

  function fillNearer() {
    const key = `${rows.length} ${second()}`;
    if (key === counted) return;
    counted = key;
    const counts = new Map();
    for (const row of rows) counts.set(nearer(row), (counts.get(nearer(row)) ?? 0) + 1);
    const options = [...counts].map(([name, number]) => new Option(`${name} (${number})`, name));
    form.elements.nearer.replaceChildren(new Option('any', ''), ...options);
  }

  // The list

  function show() {
    const wanted = state();
    const found = choose(wanted);
    fillNearer();
    for (const control of form.elements) if (control.name) control.value = wanted[control.name] ?? '';
    const read = rows.length < settings.total ? `; ${rows.length} of ${settings.total} are read` : '';
    said.textContent = [`${found.length} of ${settings.total} edits${read}`, ...troubles].join(' · ');
    showCards(paged(found, pager, list));
    const row = known.get(wanted.edit);
    one.show(row, row && view(row), () => aside.replaceChildren(...facts(row)));
  }

  let shown = '';

  /** Show cards, unless they are there: a file that was read, or an edit that is opened, changes none. */
  function showCards(here) {
    const key = JSON.stringify([second(), state().by, here.map((row) => row.id)]);
    if (key !== shown) list.replaceChildren(...here.map(card));
    for (const link of list.querySelectorAll('a')) link.href = address({edit: link.dataset.id});
    shown = key;
  }

  function card(row) {
    const link = node('a', 'pair');
    link.dataset.id = row.id;
    const metric = metricOf(state().by);
    const pictures = [0, second()].map((side) => thumb(row, side, metric));
    link.append(node('span', 'name', row.id), filled(node('span', 'thumbs'), ...pictures), verdict(row, metric));
    const mine = otherwise(row);
    if (mine) link.append(node('span', 'faint otherwise', mine));
    return filled(node('li'), link);
  }

  function thumb(row, side, metric) {
    const box = node('span', 'figure');
    const {thumb: source, why} = row.sides[side];
    const value = valueOf(row, side, metric);
    if (source) {
      const image = node('img');
      Object.assign(image, {loading: 'lazy', alt: `${row.id}, ${sides[side]}`, src: source, width: row.width, height: row.height});
      box.append(image);
    } else {
      box.append(node('span', 'hole', why ?? 'not made'));
    }
    return filled(box, node('span', 'faint', `${sides[side]}${value === undefined ? '' : ` · ${value.toFixed(metric.digits)}`}`));
  }

  function verdict(row, metric) {
    const by = difference(row, metric);
    if (by === undefined) return node('span', 'faint', `no difference is known: ${reasons(row) || 'not measured'}`);
    const line = node('span', `difference ${quality(by, metric)}`, `${signed(by, metric)} ${metric.title}`);
    return filled(node('span', 'line'), line, node('span', 'faint', saidOf(row)));
  }

  const reasons = (row) => [0, second()].filter((side) => row.sides[side].why).map((side) => `${sides[side]}: ${row.sides[side].why}`).join('; ');
  const signed = (value, {digits}) => `${Math.abs(value) < 0.5 * 10 ** -digits ? '' : value > 0 ? '+' : '−'}${Math.abs(value).toFixed(digits)}`;
  const quality = (by, {better, digits}) => (Math.abs(by) < 0.5 * 10 ** -digits ? '' : (by < 0) === (better === 'lower') ? 'good' : 'bad');
  const changesOf = (row) => row.changes?.[second() - 1] ?? [];
  const otherwise = (row) => changesOf(row).map(([name, from, to]) => `${name}: ${from} → ${to}`).join('; ');

  // One edit

  const aside = node('aside');
  const one = new EditDialog(dialog, list, aside, () => choose(state()));

  function view(row) {
    const [left, right] = [0, second()].map((side) => ({title: sides[side], src: row.sides[side].image, hole: row.sides[side].why}));
    const both = left.src && right.src;
    const layers = [left, right, {title: 'original', src: row.source}, {title: 'truth', src: row.truth, hole: 'not known'},
      {title: 'difference', src: both && left.src, over: both && right.src, blend: 'difference', hole: 'one picture is not there'}];
    const ends = [0, second()].flatMap((side) => row.sides[side].ends ?? []);
    return {name: row.id, width: row.width ?? 1, height: row.height ?? 1, layers, left: 0, right: 1, drags: row.drags, ends};
  }

  function facts(row) {
    const pair = [0, second()];
    const head = filled(node('tr'), ...['', ...pair.map((side) => sides[side]), 'difference'].map((title) => {
      const cell = node('th', '', title);
      cell.scope = 'col';
      return cell;
    }));
    const measured = metrics.filter((metric) => pair.some((side) => valueOf(row, side, metric) !== undefined)).map((metric) => {
      const values = pair.map((side) => valueOf(row, side, metric)?.toFixed(metric.digits) ?? '–');
      const by = difference(row, metric);
      const cells = values.map((value) => node('td', '', value));
      return tabled(metric.title, ...cells, node('td', by === undefined ? '' : quality(by, metric), by === undefined ? '–' : signed(by, metric)));
    });
    const table = filled(node('table', 'numbers'), head, tabled('verdict', ...pair.map((side) => node('td', '', row.sides[side].verdict ?? '–')), node('td')), ...measured);
    const links = pair.map((side) => [row.sides[side].image, sides[side]]).concat(pair.map((side) => [row.sides[side].page, `all about ${sides[side]}`]))
      .filter(([to]) => to).map(([to, title]) => Object.assign(node('a', '', title), {href: to}));
    const texts = [row.prompt && `“${row.prompt}”`, reasons(row), otherwise(row)].filter(Boolean).map((text) => node('p', 'text', text));
    return [node('p', '', saidOf(row)), table, ...texts, filled(node('p', 'links'), ...links)];
  }

  function tabled(title, ...cells) {
    const head = node('th', '', title);
    head.scope = 'row';
    return filled(node('tr'), head, ...cells);
  }

  part.hidden = false;
  buildForm();
  listen(one.keys, one.viewer, () => dialog.open);
  window.addEventListener('hashchange', show);
  show();
  readFiles(settings.files, list, ({missing}) => {
    if (missing) troubles.push(`${missing} is missing: compare again`);
    show();
  });
})();
