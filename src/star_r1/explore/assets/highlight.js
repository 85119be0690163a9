'use strict';
// One object, seen everywhere: what is pointed at, focused or held lights up in all places that
// have its index, within one container.

(function () {
  /**
   * Follow the pointer, the focus and taps in a container whose parts carry data-object. A tap
   * holds an object, or does what tapped says, which is then called with its index.
   */
  function make(container, tapped) {
    let pointed = null;
    let focused = null;
    let held = null;

    function paint() {
      const lit = pointed ?? focused ?? held;
      container.classList.toggle('lighting', lit !== null);
      for (const node of container.querySelectorAll('[data-object]')) {
        node.classList.toggle('lit', node.dataset.object === lit);
        if (node.matches('.hold')) {
          node.setAttribute('aria-pressed', String(node.dataset.object === held));
        }
      }
    }

    const of = (event) => {
      const node = event.target.closest && event.target.closest('[data-object]');
      return node && container.contains(node) ? node.dataset.object : null;
    };
    container.addEventListener('pointerover', (event) => {
      if (event.pointerType === 'touch') return; // a tap holds
      pointed = of(event);
      paint();
    });
    container.addEventListener('pointerleave', () => { pointed = null; paint(); });
    container.addEventListener('focusin', (event) => { focused = of(event); paint(); });
    container.addEventListener('focusout', () => { focused = null; paint(); });
    container.addEventListener('click', (event) => {
      const object = of(event);
      if (object !== null) (tapped || hold)(object);
    });
    container.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      if (!event.target.matches('[role=button][data-object]')) return; // buttons click themselves
      event.preventDefault();
      (tapped || hold)(of(event));
    });

    /** Hold on to an object, or let go of it when it is held already. */
    function hold(object) {
      held = object === null || held === String(object) ? null : String(object);
      if (held === null) focused = null; // or the focus would keep it lit
      paint();
    }

    /** Hold an object, whether it is held already or not; null lets go. */
    function keep(object) {
      held = object === null ? null : String(object);
      paint();
    }

    /** After the container was filled anew. */
    function reset() {
      pointed = focused = held = null;
      paint();
    }

    return { hold, keep, reset };
  }

  /**
   * Parts of a group as one stop of the tab key, with arrow keys from one to the next (roving
   * tabindex).
   */
  function rove(group, selector) {
    const parts = () => [...group.querySelectorAll(selector)];
    parts().forEach((part, i) => part.setAttribute('tabindex', i ? '-1' : '0'));
    group.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const list = parts();
      const position = list.indexOf(event.target);
      if (!step || position < 0) return;
      event.preventDefault();
      event.stopPropagation();
      const next = list[(position + step + list.length) % list.length];
      list[position].setAttribute('tabindex', '-1');
      next.setAttribute('tabindex', '0');
      next.focus();
    });
    return group;
  }

  StarR1.highlight = { make, rove };
})();
