'use strict';
// The one namespace of the page; the data as their scripts arrive; small helpers to build elements.

const StarR1 = {};

(function () {
  /** What data/index.js holds, its columns as typed arrays; null until it has arrived. */
  StarR1.index = null;

  const KEPT_CHUNKS = 12;
  const chunks = new Map(); // number -> {promise, resolve}, the least recently used one first

  /** Called by data/index.js. */
  StarR1.begin = function (index) {
    for (const name of ['view', 'population', 'scene']) index[name] = Uint32Array.from(index[name]);
    index.changed = Uint32Array.from(index.changed);
    for (const run of index.runs) {
      run.outcome = Int8Array.from(run.outcome);
      run.kinds = Uint32Array.from(run.kinds);
    }
    StarR1.index = index;
  };

  /** Called by data/rows-NNN.js. */
  StarR1.receive = function (number, rows) {
    if (chunks.has(number)) chunks.get(number).resolve(rows);
  };

  /** A promise of all that is known of the row at a place of the index. */
  StarR1.row = function (place) {
    const number = Math.floor(place / StarR1.index.chunk);
    return chunk(number).then((rows) => rows[place - number * StarR1.index.chunk]);
  };

  function chunk(number) {
    const entry = chunks.get(number) || request(number);
    chunks.delete(number);
    chunks.set(number, entry);
    if (chunks.size > KEPT_CHUNKS) chunks.delete(chunks.keys().next().value);
    return entry.promise;
  }

  function request(number) {
    const entry = {};
    entry.promise = new Promise((resolve, reject) => {
      const script = document.createElement('script');
      script.src = `data/rows-${String(number).padStart(3, '0')}.js`;
      entry.resolve = (rows) => {
        script.onload = null;
        resolve(rows);
        script.remove();
      };
      // A script that ran to its end has called receive by now; one that is cut off has not.
      script.onload = script.onerror = () => {
        chunks.delete(number);
        reject(new Error(
          `${script.getAttribute('src')} is missing or damaged; copy the whole folder again`));
      };
      document.head.append(script);
    });
    return entry;
  }

  const SVG = new Set(['svg', 'path', 'g', 'circle', 'text']);

  /**
   * A new element. Attributes that are false, null or undefined are left out, functions listen to
   * the event of that name. Children are elements, strings (always as text) or lists of them.
   */
  StarR1.el = function (tag, attributes, ...children) {
    const node = SVG.has(tag)
      ? document.createElementNS('http://www.w3.org/2000/svg', tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (typeof value === 'function') node.addEventListener(name, value);
      else if (value === true) node.setAttribute(name, '');
      else if (value !== false && value !== null && value !== undefined) {
        node.setAttribute(name, value);
      }
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false) node.append(child);
    }
    return node;
  };

  /** The element with an id. */
  StarR1.at = (id) => document.getElementById(id);

  /** A number with its noun: 1 sample, 2 samples. */
  StarR1.count = (n, noun) => `${n.toLocaleString('en')} ${noun}${n === 1 ? '' : 's'}`;

  /** A fraction in percent with one decimal. */
  StarR1.percent = (x) => `${(100 * x).toFixed(1)}%`;

  /** What an object looks like, as the prompt writes it. */
  StarR1.describe = function ([color, shape, size, material]) {
    return `${size} ${color} ${material} ${shape}`;
  };

  /** Whether the objects of a row may move. */
  StarR1.moves = (row) => 'position' in row.vocabulary.grammar;

  /** The indices of the objects that the table lists. */
  StarR1.listed = function (row, atFirst) {
    return row.objects
      .map((thing, index) => ({ thing, index }))
      .filter(({ thing }) =>
        StarR1.moves(row) || thing.visible[0] || (!atFirst && thing.visible[1]))
      .map(({ index }) => index);
  };
})();
