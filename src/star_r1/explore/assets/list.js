'use strict';
// The list of samples: only the lines in sight are elements, so its length costs nothing.

(function () {
  const { el, at } = StarR1;
  const LINE = 54; // pixels, as in style.css
  const SPARE = 6; // lines above and below those in sight

  const MARKS = ['✓', '◐', '✗'];

  const attributes = ({ attributes: names, changed }, place) =>
    names.filter((_, i) => changed[place] & (1 << i));

  const spoken = ({ outcomes }, run, place) =>
    `${run.name} ${run.outcome[place] < 0 ? 'not asked' : outcomes[run.outcome[place]].name}`;

  /** A line in words, for who does not see it. */
  function describe(place) {
    const index = StarR1.index;
    return [
      index.ids[place], index.views[index.view[place]],
      StarR1.count(index.population[place], 'object'), attributes(index, place).join(' '),
      ...index.runs.map((run) => spoken(index, run, place)),
    ].join(', ');
  }

  function line(place, position, total, chosen) {
    const index = StarR1.index;
    const said = index.runs.map((run) => run.outcome[place]);
    const node = el('div', {
      role: 'option', id: `sample-${place}`, class: 'line', 'data-place': place,
      'aria-selected': String(chosen), 'aria-setsize': total, 'aria-posinset': position + 1,
      'aria-label': describe(place),
    },
    el('span', { class: 'id' }, index.ids[place]),
    el('span', { class: 'marks' }, index.runs.map((run, i) => el('span', {
      class: `mark ${said[i] < 0 ? 'absent' : index.outcomes[said[i]].key}`,
      title: spoken(index, run, place),
    }, said[i] < 0 ? '–' : MARKS[said[i]],
    run.of[place] > 1 ? ` ${run.right[place]}/${run.of[place]}` : ''))),
    el('span', { class: 'sub' },
      `${index.views[index.view[place]]} · ${StarR1.count(index.population[place], 'object')} · `
      + attributes(index, place).join(', ')));
    node.style.top = `${position * LINE}px`;
    return node;
  }

  /** Make the list; choose is called with the place of the sample that a person picks. */
  function make(choose) {
    const box = at('list');
    const inner = at('list-inner');
    let places = [];
    let current = -1;
    let drawn = '';

    function draw() {
      const first = Math.max(0, Math.floor(box.scrollTop / LINE) - SPARE);
      const last = Math.min(places.length, Math.ceil((box.scrollTop + box.clientHeight) / LINE) + SPARE);
      const position = places.indexOf(current);
      const state = `${first} ${last} ${position} ${places.length} ${places[first]}`;
      if (state === drawn) return;
      drawn = state;
      inner.style.height = `${places.length * LINE}px`;
      const lines = [];
      for (let i = first; i < last; i++) lines.push(line(places[i], i, places.length, i === position));
      // The chosen one is always there, for who reads the list by its active descendant.
      if (position >= 0 && (position < first || position >= last)) {
        lines.push(line(current, position, places.length, true));
      }
      inner.replaceChildren(...lines);
      if (position >= 0) box.setAttribute('aria-activedescendant', `sample-${current}`);
      else box.removeAttribute('aria-activedescendant');
    }

    function reveal() {
      const position = places.indexOf(current);
      if (position < 0) return;
      const top = position * LINE;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + LINE > box.scrollTop + box.clientHeight) {
        box.scrollTop = top + LINE - box.clientHeight;
      }
    }

    function show(newPlaces, place) {
      places = newPlaces;
      current = place;
      drawn = '';
      inner.style.height = `${places.length * LINE}px`;
      reveal();
      draw();
    }

    /** The place that lies so many lines after the current one; the nearest end beyond the last. */
    function neighbour(steps) {
      const position = places.indexOf(current);
      const next = position < 0 ? 0 : position + steps;
      return places[Math.max(0, Math.min(places.length - 1, next))];
    }

    box.addEventListener('scroll', draw, { passive: true });
    new ResizeObserver(draw).observe(box);
    inner.addEventListener('click', (event) => {
      const target = event.target.closest('[data-place]');
      if (target) choose(Number(target.dataset.place), true);
    });
    box.addEventListener('keydown', (event) => {
      const page = Math.max(1, Math.floor(box.clientHeight / LINE) - 1);
      const steps = {
        ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity,
      }[event.key];
      if (steps === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const place = steps === -Infinity ? places[0]
        : steps === Infinity ? places[places.length - 1] : neighbour(steps);
      if (place !== undefined) choose(place, false);
    });
    return { show, neighbour, describe };
  }

  StarR1.list = { make };
})();
