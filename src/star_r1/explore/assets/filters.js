'use strict';
// Which samples to show: facets over the columns of the index, their counts, and their form.

(function () {
  const { el, at } = StarR1;

  /**
   * A facet is a question with some options. Of each row it knows either the one option that the
   * row has (values; -1 for none) or a bit mask of those it has (masks). chosen holds a 1 for each
   * option that is asked for; with none all rows pass.
   */
  function facet(key, name, options, columns) {
    return { key, name, options, ...columns, chosen: new Uint8Array(options.length), counts: [] };
  }

  function populationOf(index) {
    const band = (n) => index.populations.findIndex((p) => p.least <= n && n <= p.most);
    return Int8Array.from(index.population, band);
  }

  /** The facets of an index, in the order in which they are shown. */
  function facets(index) {
    const plain = (names) => names.map((name) => ({ key: name, name }));
    const bands = index.populations.map((p) => ({
      key: `${p.least}-${p.most}`, name: `${p.least}–${p.most}`,
    }));
    const list = [
      facet('view', 'Final view', plain(index.views), { values: index.view }),
      facet('objects', 'Objects', bands, { values: populationOf(index) }),
      facet('changed', 'Attribute changed', plain(index.attributes), { masks: index.changed }),
    ];
    index.runs.forEach((run, number) => {
      const of = index.runs.length > 1 ? ` · ${run.name}` : '';
      const absent = run.outcome.includes(-1);
      const outcomes = [...index.outcomes];
      if (absent) outcomes.push({ key: 'absent', name: 'not asked', meaning: 'No completion.' });
      const values = run.outcome.map((o) => (o < 0 ? index.outcomes.length : o));
      list.push(facet(`answer${number + 1}`, `Answer${of}`, outcomes, { values }));
      list.push(facet(`error${number + 1}`, `Errors${of}`, index.kinds, { masks: run.kinds }));
    });
    return list;
  }

  /**
   * The places of the rows that pass all facets and the search; sets the counts of each facet: how
   * many rows would pass with an option of it chosen alone, all other facets as they are.
   */
  function apply(list, query, ids) {
    const words = query.trim().toLowerCase();
    const active = list.map((f) => f.chosen.includes(1));
    const wanted = list.map((f) => f.chosen.reduce((bits, on, i) => bits | (on << i), 0));
    for (const f of list) f.counts = new Uint32Array(f.options.length);
    const passing = [];
    for (let place = 0; place < ids.length; place++) {
      if (words && !ids[place].toLowerCase().includes(words)) continue;
      let failed = null;
      let failures = 0;
      for (let i = 0; i < list.length && failures < 2; i++) {
        const f = list[i];
        if (active[i] && !(f.values ? f.chosen[f.values[place]] : f.masks[place] & wanted[i])) {
          failed = f;
          failures += 1;
        }
      }
      if (failures === 0) passing.push(place);
      if (failures === 0) for (const f of list) tally(f, place);
      else if (failures === 1) tally(failed, place);
    }
    return passing;
  }

  function tally(f, place) {
    if (f.values) {
      if (f.values[place] >= 0) f.counts[f.values[place]] += 1;
      return;
    }
    for (let bits = f.masks[place], i = 0; bits; bits >>>= 1, i++) if (bits & 1) f.counts[i] += 1;
  }

  let presets = [];

  /** Build the form; changed is called when an answer of it changes. */
  function build(form, list, changed) {
    const index = StarR1.index;
    const search = el('input', {
      type: 'search', id: 'search', name: 'q', autocomplete: 'off', spellcheck: 'false',
      placeholder: 'such as 000012', 'aria-keyshortcuts': '/', input: changed,
    });
    form.append(el('p', { class: 'search' }, el('label', { for: 'search' }, 'Id'), search));
    if (index.runs.length === 2) {
      presets = makePresets(list, changed);
      form.append(el('p', { class: 'presets' }, presets.map(({ button }) => button)));
    }
    for (const f of list) {
      f.boxes = f.options.map((option, i) => el('input', {
        type: 'checkbox', name: f.key, value: option.key, id: `${f.key}-${i}`, change: changed,
      }));
      f.shown = f.options.map(() => el('span', { class: 'n' }));
      const options = f.options.map((option, i) => el('span', {
        class: 'option', title: option.meaning, hidden: !occurs(f, i),
      }, f.boxes[i], el('label', { for: `${f.key}-${i}` }, option.name, ' ', f.shown[i])));
      form.append(el('fieldset', {}, el('legend', {}, f.name), el('div', { class: 'options' }, options)));
    }
    form.append(el('p', {}, el('button', {
      type: 'button', id: 'clear', click: () => { clear(form, list); changed(); },
    }, 'Clear filters')));
    form.addEventListener('submit', (event) => event.preventDefault());
  }

  /** Whether any row has an option: no model here may ever have refused to answer. */
  function occurs(f, i) {
    return f.values ? f.values.includes(i) : f.masks.some((mask) => mask & (1 << i));
  }

  /** Two runs: where one is right and the other is not; as buttons. */
  function makePresets(list, changed) {
    const answers = list.filter((f) => f.key.startsWith('answer'));
    const right = ['right'];
    const not = ['partly', 'wrong'];
    const preset = (wins, loses, ...wanted) => {
      const shown = el('span', { class: 'n' });
      const click = () => {
        answers.forEach((f, i) => f.boxes.forEach((box) => {
          box.checked = wanted[i].includes(box.value);
        }));
        changed();
      };
      const button = el('button', { type: 'button', click },
        `${wins.name} right, ${loses.name} not `, shown);
      // The facets as they would be: of the two answers this choice, of the others their own.
      const facets = () => list.map((f) => {
        const keys = wanted[answers.indexOf(f)];
        return keys ? { ...f, chosen: f.options.map((o) => Number(keys.includes(o.key))) } : { ...f };
      });
      return { button, shown, facets };
    };
    const [a, b] = StarR1.index.runs;
    return [preset(a, b, right, not), preset(b, a, not, right)];
  }

  function clear(form, list) {
    at('search').value = '';
    for (const f of list) for (const box of f.boxes) box.checked = false;
  }

  /** From the form to the facets. */
  function read(list) {
    for (const f of list) f.boxes.forEach((box, i) => { f.chosen[i] = box.checked ? 1 : 0; });
    return at('search').value;
  }

  /** The counts, beside their options; query is what is searched for. */
  function show(list, query) {
    for (const f of list) {
      f.shown.forEach((node, i) => {
        node.textContent = f.counts[i].toLocaleString('en');
        node.parentNode.parentNode.classList.toggle('none', f.counts[i] === 0);
      });
    }
    for (const { shown, facets: wanted } of presets) {
      shown.textContent = apply(wanted(), query, StarR1.index.ids).length.toLocaleString('en');
    }
  }

  /** The choices as parts of the address. */
  function toHash(list, query, parameters) {
    if (query) parameters.set('q', query);
    for (const f of list) {
      const keys = f.options.filter((_, i) => f.chosen[i]).map((option) => option.key);
      if (keys.length) parameters.set(f.key, keys.join(','));
    }
  }

  /** And back; what does not exist is passed over. */
  function fromHash(list, parameters) {
    at('search').value = parameters.get('q') || '';
    for (const f of list) {
      const keys = (parameters.get(f.key) || '').split(',');
      f.boxes.forEach((box) => { box.checked = keys.includes(box.value); });
    }
  }

  StarR1.filters = { facets, apply, build, read, show, toHash, fromHash };
})();
