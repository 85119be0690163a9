'use strict';
// One sample: its pictures, its table of objects, what truly changed, what each run said of it.

(function () {
  const { el, describe } = StarR1;

  /** A circle with the index of an object; a button that holds on to it. */
  function pin(index, label, extra) {
    return el('button', {
      type: 'button', class: 'pin hold', 'data-object': index, 'aria-pressed': 'false',
      'aria-label': label, ...extra,
    }, String(index));
  }

  /** Move labels apart until none covers another, as far as they stay in the picture. */
  function spread(places, gap, [width, height], radius) {
    const within = (value, size) => Math.max(radius, Math.min(size - radius, value));
    for (let round = 0; round < 30; round++) {
      places.forEach((a, i) => places.slice(0, i).forEach((b) => {
        const [dx, dy] = a.x === b.x && a.y === b.y ? [1, 0] : [a.x - b.x, a.y - b.y];
        const push = (gap / Math.hypot(dx, dy) - 1) / 2;
        if (push <= 0) return;
        a.x = within(a.x + push * dx, width);
        a.y = within(a.y + push * dy, height);
        b.x = within(b.x - push * dx, width);
        b.y = within(b.y - push * dy, height);
      }));
    }
    return places;
  }

  /**
   * One picture with the outlines of its objects and their labels.
   * options: changed (indices in red), linked (whether its objects can be pointed at), alt.
   */
  function picture(row, which, options) {
    const data = row.pictures[which];
    const name = which ? 'After' : 'Before';
    const caption = which ? `after, from ${data.view}` : 'before';
    const radius = data.width / 38; // as in the report
    const seen = data.outlines && options.linked ? Object.keys(data.outlines) : [];
    const look = (index) => describe(row.objects[index][which ? 'after' : 'before']);
    const places = spread(
      seen.map((index) => data.labels[index]).map(([x, y]) => ({ x, y: y - radius / 2 })),
      2.5 * radius, // on a phone they are larger: see style.css
      [data.width, data.height], radius);
    const overlay = seen.length > 0 && StarR1.highlight.rove(el('svg', {
      viewBox: `0 0 ${data.width} ${data.height}`, role: 'group',
      'aria-label': `Objects in the picture ${name.toLowerCase()}`,
    },
    seen.map((index) => el('path', {
      d: data.outlines[index], class: 'outline', 'data-object': index, role: 'button',
      'aria-label': `${index}: ${look(index)}`,
    })),
    seen.map((index, i) => el('g', {
      class: `label${options.changed.has(Number(index)) ? ' changed' : ''}`,
      'data-object': index, 'aria-hidden': 'true',
    },
    el('circle', { cx: places[i].x, cy: places[i].y, r: radius }),
    el('text', { ...places[i], 'font-size': 1.5 * radius }, index)))), 'path');
    const frame = el('div', { class: 'frame' },
      el('img', {
        src: data.file, width: data.width, height: data.height, alt: options.alt(which),
        draggable: 'false',
      }),
      overlay);
    frame.style.setProperty('--ratio', data.width / data.height);
    return el('figure', {}, frame,
      el('figcaption', {}, caption,
        !data.outlines && ' · no positions known, so no labels'));
  }

  /** In words what a picture shows: the objects that stand in it. */
  function inWords(row) {
    return (which) => {
      const things = row.objects.map((thing, index) => ({ thing, index }))
        .filter(({ thing }) => thing.visible[which])
        .map(({ thing, index }) => `${index}: ${describe(which ? thing.after : thing.before)}`);
      return `${which ? 'Final' : 'Initial'} picture, ${row.pictures[which].view} view. `
        + `${things.join('; ')}.`;
    };
  }

  function swatch(row, color) {
    const rgb = row.vocabulary.colors[color];
    const node = el('span', { class: 'swatch', 'aria-hidden': 'true' });
    if (rgb) node.style.background = `rgb(${rgb.join(',')})`;
    return node;
  }

  const COLUMNS = [['size', 2], ['color', 0], ['material', 3], ['shape', 1]];

  /**
   * The objects, a line each. options: truth (whether to show what changed), key (of the button
   * that stands for an object: index -> element).
   */
  function table(row, options) {
    const moves = StarR1.moves(row);
    const known = row.pictures[0].outlines !== null;
    const cell = (thing, name, i) => {
      const value = (text) => [name === 'color' && swatch(row, text), text];
      if (!options.truth || thing.before[i] === thing.after[i]) {
        return el('td', {}, value(thing.before[i]));
      }
      return el('td', { class: 'altered' }, el('span', { class: 'old' }, value(thing.before[i])),
        el('span', { class: 'arrow' }, ' → '), el('b', {}, value(thing.after[i])));
    };
    const place = (thing) => {
      const [from, to] = thing.places;
      const at = (p, visible) => `(${p.join(', ')})${visible ? '' : ' hidden'}`;
      const first = at(from, thing.visible[0]);
      if (!options.truth || (from[0] === to[0] && from[1] === to[1])) return el('td', {}, first);
      return el('td', { class: 'altered' }, first, el('span', { class: 'arrow' }, ' → '),
        el('b', {}, at(to, thing.visible[1])));
    };
    // Whoever plays is not told what the final picture shows.
    const pictures = options.truth ? row.pictures : row.pictures.slice(0, 1);
    const hidden = (index) => !moves && known && !pictures.some((p) => index in p.outlines);
    return el('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': 'Objects' },
      el('table', { class: 'objects' },
        el('caption', {}, options.truth ? 'Objects, and what changed' : 'Objects before'),
        el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'no.'),
          COLUMNS.map(([name]) => el('th', { scope: 'col' }, name)),
          moves && el('th', { scope: 'col' }, 'place'))),
        el('tbody', {}, StarR1.listed(row, !options.truth).map((index) => {
          const thing = row.objects[index];
          return el('tr', { 'data-object': index },
            el('th', { scope: 'row' }, options.key(index),
              hidden(index) && el('span', { class: 'muted small' }, ' out of sight')),
            COLUMNS.map(([name, i]) => cell(thing, name, i)),
            moves && place(thing));
        }))));
  }

  const FATES = {
    exact: 'exact', attribute: 'right attribute', object: 'right object', wrong: 'wrong',
  };

  const signed = (x) => (x > 0 ? `+${x}` : x < 0 ? `−${-x}` : '0');

  function badge(text, kind, title) {
    return el('span', { class: `badge ${kind || ''}`, title }, text);
  }

  const named = (list, key) => list.find((entry) => entry.key === key) || { name: key };

  /** True changes, with what each run made of them in the completion that is shown. */
  function truth(row, shown) {
    const runs = StarR1.index.runs;
    const fate = (completion, i) => {
      if (!completion) return el('td', { class: 'muted' }, '–');
      const match = completion.matches[i];
      if (!match) return el('td', {}, badge('missed', 'wrong'));
      if (match.tier === 'exact') return el('td', {}, badge('exact', 'exact'));
      return el('td', {}, badge(FATES[match.tier], match.tier),
        el('span', { class: 'muted small' }, ' ', el('bdi', {}, match.by)));
    };
    return el('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': 'True changes' },
      el('table', { class: 'truth' }, el('caption', {}, 'True changes'),
        el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'change'),
          runs.map((run) => el('th', { scope: 'col' }, run.name)))),
        el('tbody', {}, row.changes.map((change, i) => el('tr', { 'data-object': change.index },
          el('th', { scope: 'row' }, el('code', {}, change.text),
            (change.options || []).length > 1 && el('span', { class: 'muted small' },
              ` or another of ${change.options.length} moves out of sight`)),
          runs.map((_, run) => fate(shown[run], i)))))));
  }

  /** The text of a completion; the words that name an object carry its index. */
  function text(completion, run) {
    const pieces = (list) => list.map((piece) => (typeof piece === 'string' ? piece : el('span', {
      class: 'mention', 'data-object': piece[0], role: 'button',
      'aria-label': `${piece[1].trim()}, object ${piece[0]}`,
    }, piece[1])));
    const [head, tail] = completion.text;
    const empty = !tail && !head.length;
    const node = el('pre', { tabindex: '0', role: 'group', 'aria-label': `Completion of ${run.name}` },
      empty ? el('span', { class: 'muted' }, '(no text)') : pieces(head),
      completion.left_out > 0 && el('span', { class: 'muted left-out' },
        `\n[… ${StarR1.count(completion.left_out, 'character')} left out …]\n`),
      tail && pieces(tail));
    return StarR1.highlight.rove(node, '.mention');
  }

  function items(completion) {
    return el('ul', { class: 'chips', 'aria-label': 'Predicted changes' },
      completion.items.map((item) => {
        const kind = item.kind && named(StarR1.index.kinds, item.kind);
        return el('li', {
          class: item.fate, 'data-object': item.index, title: kind && kind.meaning,
        }, el('bdi', {}, item.text), ' · ', kind ? kind.name : FATES[item.fate]);
      }),
      completion.more > 0 && el('li', {}, `and ${StarR1.count(completion.more, 'more item')}`),
      !completion.items.length && el('li', {}, 'no prediction'));
  }

  function reward(completion) {
    return el('p', { class: 'terms' }, 'Reward ', el('b', {}, signed(completion.terms.total).replace('+', '')), ': ',
      StarR1.index.terms.map((term) => [el('span', { class: completion.terms[term] && 'counts' },
        `${term} ${signed(completion.terms[term])}`), ' ']));
  }

  /** Which of the K completions is shown. */
  function switcher(run, number, completions, shown, choose) {
    return completions.length > 1 && el('div', {
      class: 'switcher', role: 'group', 'aria-label': `Completions of ${run.name}`,
    }, completions.map((completion, i) => el('button', {
      type: 'button', class: completion.outcome, 'aria-pressed': String(i === shown),
      'aria-label': `Completion ${i + 1}, ${named(StarR1.index.outcomes, completion.outcome).name}`,
      'data-completion': `${number}-${i}`, click: () => choose(number, i),
    }, String(i + 1))));
  }

  function said(run, number, completions, shown, choose) {
    const completion = completions[shown];
    const right = completions.filter((c) => c.outcome === 'right').length;
    const status = completion && completion.status !== 'answered'
      && named(StarR1.index.kinds, completion.status);
    return el('section', { class: 'said card', 'aria-label': run.name },
      el('h3', {}, run.name, ' ',
        completion && badge(named(StarR1.index.outcomes, completion.outcome).name, completion.outcome),
        status && badge(status.name, 'wrong', status.meaning),
        completion && completion.problem && badge(completion.problem, 'wrong'),
        completions.length > 1 && badge(`${right} of ${completions.length} right`)),
      !completion && el('p', { class: 'muted' }, 'Not asked.'),
      switcher(run, number, completions, shown, choose),
      completion && [
        completion.error && el('p', { class: 'wrong-text' }, completion.error),
        items(completion), reward(completion), text(completion, run),
      ]);
  }

  /**
   * The whole of a sample. which: per run the completion to show; choose(run, completion) switches.
   */
  function render(row, place, which, choose, steps) {
    const index = StarR1.index;
    const shown = row.runs.map((completions, run) =>
      Math.min(which[run] || 0, Math.max(0, completions.length - 1)));
    const changed = new Set(row.changes.map((change) => change.index));
    const options = { changed, linked: true, alt: inWords(row) };
    const columns = { 0: '', 1: '', 2: ' two' }[index.runs.length] ?? ' many';
    const look = (i) => `${i}: ${describe(row.objects[i].before)}${changed.has(i) ? ', changed' : ''}`;
    return [
      el('header', { class: 'detail-head' },
        el('h2', { id: 'sample-id' }, row.id), badge(index.views[index.view[place]]),
        badge(StarR1.count(index.population[place], 'object')),
        el('span', { class: 'steps' },
          el('button', { type: 'button', id: 'previous', 'aria-keyshortcuts': 'k', click: () => steps(-1) },
            el('span', { 'aria-hidden': 'true' }, '‹ '), el('span', { class: 'word' }, 'Previous')),
          el('button', { type: 'button', id: 'next', 'aria-keyshortcuts': 'j', click: () => steps(1) },
            el('span', { class: 'word' }, 'Next'), el('span', { 'aria-hidden': 'true' }, ' ›')))),
      el('div', { class: 'pictures' }, picture(row, 0, options), picture(row, 1, options)),
      el('div', { class: `facts${columns}` },
        el('div', { class: 'card' }, table(row, {
          truth: true, key: (i) => pin(i, look(i), { class: `pin hold${changed.has(i) ? ' changed' : ''}` }),
        })),
        el('div', { class: 'card' }, truth(row, row.runs.map((list, run) => list[shown[run]])))),
      el('div', { class: 'runs' }, index.runs.map((run, number) =>
        said(run, number, row.runs[number], shown[number], choose))),
    ];
  }

  StarR1.detail = { render, picture, table, inWords, badge, pin, swatch };
})();
