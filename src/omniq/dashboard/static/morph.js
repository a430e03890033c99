// Changes a tree into another one with as few changes as possible, so that what the reader
// does (focus, selection, scroll, open <details>, half-filled forms) is left alone.

const keyOf = (node) => (node.nodeType === 1 && node.id ? node.id : null)

const alike = (a, b) =>
  a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b)

/** Change `old` into `fresh`; gives the node that stands in its place. */
export function morph(old, fresh) {
  if (!alike(old, fresh)) {
    old.replaceWith(fresh)
    return fresh
  }
  if (old.nodeType !== 1) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue
    return old
  }
  if (old.hasAttribute('data-ignore-morph') || old.isEqualNode(fresh)) return old
  attributes(old, fresh)
  if (old.nodeName === 'TEXTAREA') {
    if (old.defaultValue !== fresh.defaultValue) old.defaultValue = fresh.defaultValue
  } else {
    children(old, fresh)
  }
  return old
}

function attributes(old, fresh) {
  const kept = new Set((fresh.getAttribute('data-preserve-attr') ?? '').split(/\s+/))
  for (const { name, value } of [...fresh.attributes]) {
    if (!kept.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value)
  }
  for (const { name } of [...old.attributes]) {
    if (!kept.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name)
  }
}

function children(parent, fresh) {
  const known = new Map()
  for (const child of parent.children) if (child.id) known.set(child.id, child)
  const coming = new Set()
  for (const child of fresh.children) if (child.id) coming.add(child.id)

  let at = parent.firstChild
  for (let next = fresh.firstChild; next; ) {
    const node = next
    next = next.nextSibling
    // What has an id and does not come again goes first: nothing is matched with it.
    while (at && keyOf(at) && !coming.has(keyOf(at))) {
      const gone = at
      at = at.nextSibling
      gone.remove()
    }
    const mine = keyOf(node) ? known.get(node.id) : null
    if (mine && mine !== at) {
      move(parent, mine, at)
      morph(mine, node)
    } else if (at && (mine || alike(at, node))) {
      const same = at
      at = at.nextSibling
      morph(same, node)
    } else {
      parent.insertBefore(node, at)
    }
  }
  while (at) {
    const gone = at
    at = at.nextSibling
    gone.remove()
  }
}

function move(parent, node, before) {
  if (parent.moveBefore) parent.moveBefore(node, before) // keeps focus and state
  else parent.insertBefore(node, before)
}

/** Apply one patch: the modes of Datastar's `datastar-patch-elements`. */
export function patch({ elements = '', selector = '', mode = 'outer' }) {
  const template = document.createElement('template')
  template.innerHTML = elements
  const fresh = [...template.content.childNodes].filter((n) => n.nodeType === 1)
  const targets = selector ? [...document.querySelectorAll(selector)] : []
  if (mode === 'remove') {
    const gone = selector ? targets : fresh.map((n) => document.getElementById(n.id))
    for (const node of gone) node?.remove()
    return
  }
  if (!selector) {
    for (const node of fresh) {
      const old = node.id && document.getElementById(node.id)
      if (!old) console.warn('omniq: nothing to patch with id', node.id)
      else if (mode === 'replace') old.replaceWith(node)
      else if (mode === 'inner') inner(old, node.childNodes)
      else morph(old, node)
    }
    return
  }
  for (const target of targets) {
    const nodes = fresh.map((node) => node.cloneNode(true))
    if (mode === 'outer') nodes.length && morph(target, nodes[0])
    else if (mode === 'replace') target.replaceWith(...nodes)
    else if (mode === 'inner') inner(target, nodes)
    else if (['prepend', 'append', 'before', 'after'].includes(mode)) target[mode](...nodes)
  }
}

function inner(target, nodes) {
  const shell = target.cloneNode(false)
  shell.append(...nodes)
  children(target, shell)
}
