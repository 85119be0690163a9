'use strict';
// The 11 metrics (12 where objects move), as star_r1.metrics has them: what a person's answers are
// worth. Works on values alone.

(function () {
  const LOOKS = ['color', 'shape', 'size', 'material']; // in this order in row.objects

  const same = (a, b) =>
    a.index === b.index && a.attribute === b.attribute && a.value === b.value;

  const accepts = (truth, said) => same(truth, said)
    || (truth.index === said.index && truth.attribute === said.attribute
      && (truth.options || []).includes(said.value));

  /** As tvr.change.same_changes: looks as sets, moves one to one. */
  function sameChanges(said, truth) {
    const looks = (list) => new Set(
      list.filter((c) => c.attribute !== 'position').map((c) => `${c.index}.${c.attribute}.${c.value}`));
    const moves = (list) => list.filter((c) => c.attribute === 'position');
    const a = looks(said);
    const b = looks(truth);
    return a.size === b.size && [...a].every((c) => b.has(c)) && pairOff(moves(said), moves(truth));
  }

  function pairOff(said, truth) {
    if (said.length !== truth.length) return false;
    if (!truth.length) return true;
    return said.some((move, i) =>
      accepts(truth[0], move) && pairOff(said.filter((_, j) => j !== i), truth.slice(1)));
  }

  /** As tvr.simulate: cells of (object, attribute) that differ from the end after the changes. */
  function distance(row, said) {
    const { moves, cells, visible } = StarR1.index.table;
    const looks = row.objects.map((thing) => [...thing.before]);
    const places = row.objects.map((thing) => [...thing.places[0]]);
    for (const change of said) {
      if (change.attribute === 'position') {
        places[change.index][0] += moves[change.value][0];
        places[change.index][1] += moves[change.value][1];
      } else {
        looks[change.index][LOOKS.indexOf(change.attribute)] = change.value;
      }
    }
    const within = (half, [x, y]) => Math.max(Math.abs(x), Math.abs(y)) <= half;
    let cellsWrong = 0;
    row.objects.forEach((thing, index) => {
      looks[index].forEach((value, i) => { cellsWrong += value !== thing.after[i]; });
      const place = places[index];
      const there = place[0] === thing.places[1][0] && place[1] === thing.places[1][1];
      cellsWrong += !there
        && (thing.visible[1] || within(visible, place) || !within(cells, place));
    });
    return cellsWrong;
  }

  /** As metrics.judge: said is a list of {index, attribute, value}, all of the vocabulary. */
  function judge(row, said) {
    const attributes = [...LOOKS, ...(StarR1.moves(row) ? ['position'] : [])];
    const diff = distance(row, said);
    const byAttribute = {};
    for (const attribute of attributes) {
      const of = (list) => list.filter((change) => change.attribute === attribute);
      const wanted = of(row.changes);
      byAttribute[attribute] = wanted.length ? sameChanges(of(said), wanted) : null;
    }
    return {
      correct: sameChanges(said, row.changes),
      diff,
      ndiff: diff / Math.max(row.changes.length, 1),
      byAttribute,
      population: row.objects.filter((thing) => thing.visible[0]).length,
      moves: StarR1.moves(row),
    };
  }

  /** The overall metrics of judged answers: name -> {value (null where n is 0), n}. */
  function metrics(judged) {
    const mean = (values) => {
      const counted = values.filter((value) => value !== null && value !== undefined);
      const sum = counted.reduce((total, value) => total + Number(value), 0);
      return { value: counted.length ? sum / counted.length : null, n: counted.length };
    };
    const result = {
      tacc: mean(judged.map((j) => j.correct)),
      diff: mean(judged.map((j) => j.diff)),
      ndiff: mean(judged.map((j) => j.ndiff)),
    };
    for (const attribute of StarR1.index.attributes) {
      result[attribute] = mean(judged.map((j) => j.byAttribute[attribute]));
    }
    for (const { key, least, most } of StarR1.index.populations) {
      result[key] = mean(judged.map((j) =>
        (least <= j.population && j.population <= most ? j.correct : null)));
    }
    return result;
  }

  /** The change of a text such as 2.color.cyan. */
  function parse(text) {
    const [index, attribute, ...value] = text.split('.');
    return { index: Number(index), attribute, value: value.join('.') };
  }

  StarR1.score = { judge, metrics, parse, accepts };
})();
