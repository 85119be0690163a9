'use strict';
// A person answers: the questions in an order by seed, an answer by clicking, the score as it
// grows, and the answers as a predictions file. What was answered stays in the browser's storage.

(function () {
  const { el, at, describe, score } = StarR1;

  /** Numbers in [0, 1) from a seed: mulberry32. */
  function random(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /**
   * The places in the order in which they are asked. All views of a scene have the same changes, so
   * each scene comes once, from a view by chance, before any comes from a second one.
   */
  function order(seed) {
    const { ids, scene } = StarR1.index;
    const next = random(seed);
    const places = ids.map((_, place) => place);
    for (let i = places.length - 1; i > 0; i--) {
      const j = Math.floor(next() * (i + 1));
      [places[i], places[j]] = [places[j], places[i]];
    }
    const times = new Map();
    const rounds = [];
    for (const place of places) {
      const round = times.get(scene[place]) || 0;
      times.set(scene[place], round + 1);
      (rounds[round] = rounds[round] || []).push(place);
    }
    return rounds.flat();
  }

  /** The answers of one seed: id -> {items, judged}, and drafts: id -> items; kept over a reload. */
  function open(seed) {
    const key = `star-r1 play ${StarR1.index.fingerprint} ${seed}`;
    const state = { answers: {}, drafts: {} };
    let kept = true;
    try {
      const before = JSON.parse(localStorage.getItem(key) || '{}');
      Object.assign(state.answers, before.answers);
      Object.assign(state.drafts, before.drafts);
    } catch { kept = false; }
    const save = () => {
      try {
        localStorage.setItem(key, JSON.stringify(state));
        kept = true;
      } catch { kept = false; }
    };
    return { state, save, kept: () => kept };
  }

  /** A predictions file, as star-r1 scores it: a line an answer. */
  function toFile(answers) {
    return Object.entries(answers).map(([id, { items }]) => `${JSON.stringify({
      id, completion: `<think></think><answer>${items.join(', ') || 'none'}</answer>`,
    })}\n`).join('');
  }

  const NAMES = {
    tacc: 'TAcc', diff: 'Diff', ndiff: 'NDiff', color: 'Color', shape: 'Shape', size: 'Size',
    material: 'Material', position: 'Position',
  };

  /** Make the game in a container; moved is called when another question is shown. */
  function make(container, moved) {
    let seed = 0;
    let session = null;
    let questions = [];
    let position = 0;
    let row = null;
    let chosen = null;
    let turn = 0;
    const light = StarR1.highlight.make(container, choose);
    const part = (name) => container.querySelector(`[data-part=${name}]`);

    const answer = () => session.state.answers[row.id];
    const draft = () => (session.state.drafts[row.id] = session.state.drafts[row.id] || []);

    function frame() {
      container.replaceChildren(
        el('div', { class: 'question' },
          el('header', { class: 'detail-head' },
            el('h2', { id: 'play-heading', tabindex: '-1' }),
            el('span', { class: 'badges', 'data-part': 'badges' }),
            el('span', { class: 'steps' },
              el('button', { type: 'button', click: () => step(-1) }, 'Back'),
              el('button', { type: 'button', id: 'skip', click: () => step(1) }, 'Skip'))),
          el('div', { class: 'pictures', 'data-part': 'pictures' }),
          el('div', { class: 'facts' },
            el('div', { class: 'card', 'data-part': 'table' }),
            el('div', { class: 'card answer' },
              el('p', { class: 'verdict', role: 'status', 'data-part': 'verdict' }),
              el('div', { 'data-part': 'builder' }), el('div', { 'data-part': 'answer' })))),
        el('aside', { class: 'card score', 'aria-label': 'Your score' },
          el('div', { 'data-part': 'score' }), controls()));
    }

    function controls() {
      const input = el('input', {
        type: 'number', min: '0', max: '4294967295', id: 'seed', value: String(seed), required: true,
      });
      return [
        el('p', {}, el('button', { type: 'button', id: 'export', click: download }, 'Save answers')),
        el('p', { class: 'muted small' }, 'A predictions file. Score it by ',
          el('code', {}, 'star-r1 score --unanswered leave-out'), '.'),
        el('form', {
          class: 'seed', submit: (event) => { event.preventDefault(); enter(Number(input.value)); },
        }, el('label', { for: 'seed' }, 'Order by seed'), input, el('button', { type: 'submit' }, 'Go')),
        el('p', { class: 'muted small' },
          'The same seed asks the same questions in the same order. Each has its own progress, kept '
          + 'in this browser.'),
        el('p', {}, el('button', { type: 'button', id: 'forget', click: forget }, 'Forget my answers')),
        el('p', { class: 'wrong-text small', 'data-part': 'storage', role: 'status' }),
      ];
    }

    /** Ask the questions of a seed, from a position or the first open one; without a seed, go on. */
    function enter(newSeed, newPosition) {
      if (newSeed !== undefined) {
        seed = Math.max(0, Math.min(4294967295, Math.floor(newSeed) || 0));
      } else if (session) {
        newPosition = position;
      }
      session = open(seed);
      questions = order(seed);
      frame();
      showScore();
      const first = questions.findIndex((p) => !(StarR1.index.ids[p] in session.state.answers));
      const wanted = newPosition ?? first;
      go(Math.max(0, Math.min(questions.length - 1, wanted)));
    }

    function step(steps) {
      const next = position + steps;
      if (next < 0 || next >= questions.length) return;
      go(next).then(() => at('play-heading').focus());
    }

    function go(newPosition) {
      position = newPosition;
      const mine = ++turn;
      chosen = null;
      moved();
      return StarR1.row(questions[position]).then((found) => {
        if (mine !== turn) return; // another question was asked for meanwhile
        row = found;
        show();
      }, StarR1.complain);
    }

    function show() {
      const done = answer();
      const { views, view } = StarR1.index;
      at('play-heading').textContent = `Question ${position + 1} of ${questions.length}`;
      part('badges').replaceChildren(
        StarR1.detail.badge(`after: from ${views[view[questions[position]]]}`),
        done ? StarR1.detail.badge('answered', done.judged.correct ? 'right' : 'wrong') : '');
      at('skip').textContent = done ? 'Next' : 'Skip';
      const changed = new Set(done ? row.changes.map((change) => change.index) : []);
      const words = StarR1.detail.inWords(row);
      // Until the answer is given nothing tells which object of the final picture is which.
      const hidden = (which) => (which && !done
        ? `Final picture, ${row.pictures[1].view} view.` : words(which));
      part('pictures').replaceChildren(
        StarR1.detail.picture(row, 0, { changed, linked: true, alt: hidden }),
        StarR1.detail.picture(row, 1, { changed, linked: Boolean(done), alt: hidden }));
      part('table').replaceChildren(StarR1.detail.table(row, {
        truth: Boolean(done),
        key: (i) => StarR1.detail.pin(i, `${i}: ${describe(row.objects[i].before)}`,
          changed.has(i) ? { class: 'pin hold changed' } : {}),
      }));
      part('verdict').replaceChildren();
      light.reset();
      light.keep(chosen);
      showBuilder();
      showAnswer();
      if (done) showVerdict();
    }

    /** An object was clicked, in a picture or the table. */
    function choose(object) {
      if (!row || !StarR1.listed(row, !answer()).includes(Number(object))) return;
      chosen = Number(object);
      light.keep(chosen);
      showBuilder();
    }

    /** No object is chosen any more. */
    function release() {
      chosen = null;
      light.keep(null);
      showBuilder();
    }

    /** A digit was typed: the tab key goes on from there to what the object may have become. */
    function type(digit) {
      choose(digit);
      if (chosen === Number(digit)) part('builder').querySelector('h3')?.focus();
    }

    function showBuilder() {
      if (answer()) { part('builder').replaceChildren(); return; }
      if (chosen === null) {
        part('builder').replaceChildren(el('h3', {}, 'What changed?'), el('p', { class: 'muted' },
          'Choose an object, in the picture before or in the table, then what it became.'));
        return;
      }
      const thing = row.objects[chosen];
      const now = { color: 0, shape: 1, size: 2, material: 3 };
      part('builder').replaceChildren(
        el('h3', { tabindex: '-1' }, `Object ${chosen} `, el('span', { class: 'muted' }, describe(thing.before))),
        ...Object.entries(row.vocabulary.grammar).map(([attribute, values]) => el('fieldset', {},
          el('legend', {}, attribute === 'position' ? 'moved: direction and steps' : attribute),
          el('div', { class: 'options values' }, values.map((value) => {
            const item = `${chosen}.${attribute}.${value}`;
            const is = attribute !== 'position' && thing.before[now[attribute]] === value;
            return el('button', {
              type: 'button', 'data-item': item, disabled: is, click: () => toggle(item),
              'aria-pressed': attribute === 'position' ? null : String(draft().includes(item)),
              'aria-label': is ? `${value}, as before` : null,
            }, attribute === 'color' && StarR1.detail.swatch(row, value), value);
          })))));
    }

    /** Add a change to the answer, or take it back; one value an attribute, moves add up. */
    function toggle(item) {
      const change = score.parse(item);
      const before = draft();
      let items;
      if (change.attribute === 'position') items = [...before, item];
      else if (before.includes(item)) items = before.filter((other) => other !== item);
      else {
        const prefix = `${change.index}.${change.attribute}.`;
        items = [...before.filter((other) => !other.startsWith(prefix)), item];
      }
      keep(items);
    }

    function keep(items) {
      session.state.drafts[row.id] = items;
      save();
      for (const button of part('builder').querySelectorAll('[aria-pressed]')) {
        button.setAttribute('aria-pressed', String(items.includes(button.dataset.item)));
      }
      showAnswer();
    }

    function showAnswer() {
      const done = answer();
      if (done) {
        const last = position === questions.length - 1;
        const serves = (text) => row.changes.some((c) => score.accepts(c, score.parse(text)));
        part('answer').replaceChildren(
          el('h3', {}, 'True changes'),
          el('ul', { class: 'chips' }, row.changes.map((c) =>
            el('li', { 'data-object': c.index }, c.text))),
          el('h3', {}, 'Your answer'),
          el('ul', { class: 'chips' }, done.items.map((text) => el('li', {
            class: serves(text) ? 'exact' : 'wrong', 'data-object': score.parse(text).index,
          }, text, serves(text) ? ' · right' : ' · wrong')), !done.items.length && el('li', {}, 'none')),
          el('p', {}, el('button', {
            type: 'button', class: 'primary', id: 'go-on', click: last ? download : () => step(1),
          }, last ? 'The last question: save answers' : 'Next question')));
        return;
      }
      const items = draft();
      part('answer').replaceChildren(
        el('h3', { id: 'answer-heading' }, 'Your answer'),
        el('ul', { class: 'chips', 'aria-labelledby': 'answer-heading', 'aria-live': 'polite' },
          items.map((item, i) => el('li', {}, item, ' ', el('button', {
            type: 'button', class: 'remove', 'aria-label': `Remove ${item}`,
            click: () => { keep(draft().filter((_, j) => j !== i)); at('submit').focus(); },
          }, '×'))), !items.length && el('li', { class: 'muted' }, 'nothing yet')),
        el('p', {}, el('button', { type: 'button', class: 'primary', id: 'submit', click: submit },
          items.length ? 'Submit' : 'Submit: nothing changed')));
    }

    function submit() {
      const items = draft();
      const judged = score.judge(row, items.map(score.parse));
      session.state.answers[row.id] = { items, judged };
      delete session.state.drafts[row.id];
      chosen = null;
      save();
      show();
      showScore();
      at('go-on').focus();
    }

    function showVerdict() {
      const { judged } = answer();
      part('verdict').replaceChildren(judged.correct
        ? el('b', { class: 'badge right' }, 'Right')
        : el('b', { class: 'badge wrong' }, 'Not right'),
      judged.correct ? ' All changes, and nothing else.'
        : ` ${StarR1.count(judged.diff, 'attribute')} left wrong.`);
    }

    function save() {
      session.save();
      part('storage').textContent = session.kept() ? ''
        : 'This browser keeps nothing for this page: save your answers before you leave.';
    }

    function showScore() {
      const done = Object.values(session.state.answers).map((a) => a.judged);
      const measured = score.metrics(done);
      const populations = Object.fromEntries(StarR1.index.populations.map((p) =>
        [p.key, `${p.least}–${p.most} objects`]));
      const text = (name, value) => (value === null ? '–'
        : name === 'diff' || name === 'ndiff' ? value.toFixed(2) : StarR1.percent(value));
      part('score').replaceChildren(
        el('h2', {}, 'Your score'),
        el('p', { role: 'status', id: 'answered' },
          `${done.length} of ${questions.length} answered`),
        el('progress', { max: questions.length, value: done.length, 'aria-labelledby': 'answered' }),
        el('table', {}, el('caption', { class: 'hidden-text' }, 'Metrics of your answers'),
          el('thead', {}, el('tr', {}, ['metric', 'value', 'n'].map((name) =>
            el('th', { scope: 'col' }, name)))),
          el('tbody', {}, Object.entries(measured).map(([name, { value, n }]) =>
            el('tr', { 'data-metric': name, 'data-value': value === null ? '' : String(value) },
              el('th', { scope: 'row' }, NAMES[name] || populations[name]),
              el('td', {}, text(name, value)), el('td', { class: 'muted' }, String(n)))))),
        el('p', { class: 'muted small' }, 'Diff and NDiff: lower is better.'));
    }

    function download() {
      const blob = new Blob([toFile(session.state.answers)], { type: 'application/x-ndjson' });
      const url = URL.createObjectURL(blob);
      const name = StarR1.index.data.replace(/[^\w.-]+/g, '-');
      el('a', { href: url, download: `human-${name}-seed-${seed}.jsonl` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    }

    function forget() {
      const n = Object.keys(session.state.answers).length;
      if (!window.confirm(`Forget ${StarR1.count(n, 'answer')} of seed ${seed}?`)) return;
      session.state.answers = {};
      session.state.drafts = {};
      session.save();
      enter(seed);
    }

    return {
      enter, step, type, release,
      toHash: (parameters) => {
        parameters.set('play', String(seed));
        parameters.set('at', String(position + 1));
      },
    };
  }

  StarR1.play = { make, order };
})();
