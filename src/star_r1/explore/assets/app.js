'use strict';
// Puts the page together: the mode, the current sample, the address, the keys.

(function () {
  const { el, at } = StarR1;

  /** Show what went wrong, at the top of the page. */
  StarR1.complain = function (error) {
    at('notice').textContent = error.message;
    at('notice').hidden = false;
  };

  if (!StarR1.index) {
    StarR1.complain(new Error(
      'This explorer is not finished: run its star-r1 explore command again.'));
    return;
  }

  const index = StarR1.index;
  const facets = StarR1.filters.facets(index);
  const list = StarR1.list.make((place, toDetail) => select(place, toDetail));
  const light = StarR1.highlight.make(at('detail'));
  const game = StarR1.play.make(at('play'), writeHash);
  const narrow = window.matchMedia('(max-width: 60rem)');
  let playing = false;
  let current = -1;
  let completions = index.runs.map(() => 0);
  let drawn = 0;

  function describeData() {
    const runs = index.runs.map((run) =>
      (run.model && run.model !== run.name ? `${run.name} (model ${run.model})` : run.name));
    at('about').textContent = `${StarR1.count(index.ids.length, 'sample')} of ${index.data}`
      + (runs.length ? ` · ${runs.join(' · ')}` : '');
    document.title = `STAR-R1 explorer: ${[index.data, ...index.runs.map((r) => r.name)].join(', ')}`;
    if (!index.runs.length) return;
    at('help').append(
      el('h2', {}, 'Answers and errors'),
      el('dl', { class: 'meanings' }, [...index.outcomes, ...index.kinds].map((kind) =>
        el('div', {}, el('dt', {}, kind.name), el('dd', {}, kind.meaning)))),
      el('p', { class: 'muted' },
        'Where a run has several completions of a sample, filters and marks go by the first one; '
        + 'the share of right answers is over all.'));
  }

  /** After a filter changed: count, list, and a current sample that is among those shown. */
  function refresh() {
    const query = StarR1.filters.read(facets);
    const places = StarR1.filters.apply(facets, query, index.ids);
    StarR1.filters.show(facets, query);
    at('count').textContent = places.length === index.ids.length
      ? `all ${index.ids.length.toLocaleString('en')}`
      : `${places.length.toLocaleString('en')} of ${index.ids.length.toLocaleString('en')}`;
    const chosen = facets.reduce((n, f) => n + f.chosen.reduce((a, b) => a + b, 0), query ? 1 : 0);
    at('active').textContent = chosen ? ` ${chosen} chosen` : '';
    at('shares').replaceChildren(...index.runs.map((run) => {
      let right = 0;
      let asked = 0;
      for (const place of places) {
        if (!run.of[place]) continue;
        right += run.right[place] / run.of[place]; // as TAcc
        asked += 1;
      }
      return el('div', {}, el('dt', {}, run.name),
        el('dd', {}, asked ? `${StarR1.percent(right / asked)} right` : '–'));
    }));
    if (!places.includes(current)) current = places.length ? places[0] : -1;
    list.show(places, current);
    shown = places;
    show();
    writeHash();
  }
  let shown = [];

  function select(place, toDetail) {
    if (place === undefined || place < 0) return;
    if (place !== current) completions = index.runs.map(() => 0);
    current = place;
    list.show(shown, current);
    const ready = show();
    writeHash();
    if (toDetail && narrow.matches) {
      ready.then(() => at('detail').scrollIntoView({ block: 'start' }));
    }
  }

  function step(steps) {
    if (playing) game.step(steps);
    else select(list.neighbour(steps), false);
  }

  let rendered = '';

  /** The detail of the current sample; a promise that it is there. */
  function show() {
    const state = `${current} ${completions}`;
    if (state === rendered) return Promise.resolve();
    rendered = state;
    const mine = ++drawn;
    if (current < 0) {
      at('detail').replaceChildren(
        el('p', { class: 'muted empty' }, 'No sample passes the filters. ',
          el('button', { type: 'button', click: () => at('clear').click() }, 'Clear them')));
      return Promise.resolve();
    }
    return StarR1.row(current).then((row) => {
      if (mine !== drawn) return; // another sample was chosen meanwhile
      const focus = document.activeElement;
      const back = at('detail').contains(focus) && (focus.id ? `#${focus.id}`
        : focus.dataset.completion && `[data-completion="${focus.dataset.completion}"]`);
      at('detail').replaceChildren(...StarR1.detail.render(row, current, completions, (run, k) => {
        completions[run] = k;
        show();
        writeHash();
      }, step));
      light.reset();
      // The list tells of its own; whoever steps by a key or a button elsewhere hears it here.
      at('now').textContent = at('list').contains(focus) ? '' : list.describe(current);
      if (back) at('detail').querySelector(back)?.focus({ preventScroll: true });
      preload(list.neighbour(1));
    }, (error) => { rendered = ''; StarR1.complain(error); });
  }

  /** The next sample is likely to be looked at next. */
  function preload(place) {
    if (place === undefined || place === current) return;
    StarR1.row(place).then((row) => {
      for (const picture of row.pictures) new Image().src = picture.file;
    }, () => {});
  }

  function setMode(play, seed, position) {
    playing = play;
    at('browse').hidden = play;
    at('play').hidden = !play;
    at('mode').setAttribute('aria-pressed', String(play));
    document.body.classList.toggle('playing', play);
    if (play) game.enter(seed, position);
    else list.show(shown, current);
    writeHash();
  }

  function setLabels(on) {
    document.body.classList.toggle('bare', !on);
    at('labels').setAttribute('aria-pressed', String(on));
  }

  let writing = true;

  function writeHash() {
    if (!writing) return;
    const parameters = new URLSearchParams();
    if (playing) game.toHash(parameters);
    else {
      StarR1.filters.toHash(facets, at('search').value, parameters);
      if (current >= 0) parameters.set('id', index.ids[current]);
      completions.forEach((k, run) => { if (k) parameters.set(`completion${run + 1}`, k + 1); });
    }
    const hash = `#${parameters}`;
    if (hash !== window.location.hash) window.history.replaceState(null, '', hash);
  }

  function readHash() {
    const parameters = new URLSearchParams(window.location.hash.slice(1));
    writing = false;
    StarR1.filters.fromHash(facets, parameters);
    current = index.ids.indexOf(parameters.get('id'));
    completions = index.runs.map((_, run) =>
      Math.max(0, Number.parseInt(parameters.get(`completion${run + 1}`), 10) - 1 || 0));
    refresh();
    const play = parameters.get('play');
    const position = Number.parseInt(parameters.get('at'), 10) - 1;
    setMode(play !== null, Number(play) || 0, position >= 0 ? position : undefined);
    writing = true;
    writeHash();
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || at('help').open) return;
    const target = event.target;
    if (target.matches('input:not([type=checkbox]), textarea, select')) {
      if (event.key === 'Escape') target.blur();
      return;
    }
    const actions = {
      j: () => step(1),
      k: () => step(-1),
      ArrowRight: () => step(1),
      ArrowLeft: () => step(-1),
      l: () => setLabels(document.body.classList.contains('bare')),
      p: () => setMode(!playing),
      '?': () => at('help').showModal(),
      Escape: () => (playing ? game.release() : light.hold(null)),
      '/': () => {
        if (playing) return;
        at('filters-box').open = true;
        at('search').focus();
        at('search').select();
      },
    };
    const action = /^[0-9]$/.test(event.key)
      ? () => (playing ? game.type(event.key) : light.hold(event.key))
      : actions[event.key];
    if (!action || scrolls(target, event.key)) return;
    event.preventDefault();
    action();
  }

  /** Whether a key moves a table that is wider than its place. */
  function scrolls(target, key) {
    const region = target.closest('.scroll');
    return (key === 'ArrowLeft' || key === 'ArrowRight')
      && region !== null && region.scrollWidth > region.clientWidth;
  }

  describeData();
  StarR1.filters.build(at('filters'), facets, refresh);
  at('labels').addEventListener('click', () => setLabels(document.body.classList.contains('bare')));
  at('mode').addEventListener('click', () => setMode(!playing));
  at('help-open').addEventListener('click', () => at('help').showModal());
  document.addEventListener('keydown', key);
  window.addEventListener('hashchange', readHash);
  if (narrow.matches) at('filters-box').open = false;
  readHash();
  document.body.dataset.ready = 'true'; // for tests and measurements
})();
