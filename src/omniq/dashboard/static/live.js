// The browser's side of live pages: speaks the part of Datastar's protocol that the dashboard
// uses. Attributes are data here, never code: what is no plain call or signal is not run, so
// the page's policy needs no 'unsafe-eval'.

import { patch } from './morph.js'

const signals = {}
const running = new WeakMap() // element -> Map(attribute -> {value, stop})
let paused = false

// ---- reading attributes

const CALL = /^\s*@(get|post)\((.*)\)\s*;?\s*$/s
const SIGNAL = /^\s*(!?)\s*\$([A-Za-z_][\w.]*)\s*$/

/** `@get("/url", {"retry": "always"})` as {method, url, options}; null for anything else. */
function call(text) {
  const found = CALL.exec(text)
  if (!found) return null
  const inside = found[2].replace(/^\s*'([^'"\\]*)'/, '"$1"')
  try {
    const [url, options = {}] = JSON.parse(`[${inside}]`)
    if (typeof url !== 'string') return null
    const target = new URL(url, location.href)
    if (target.origin !== location.origin) return null
    return { method: found[1].toUpperCase(), url: target, options }
  } catch {
    return null
  }
}

/** The value of `$name`, `$a.b` or `!$name`. */
function signal(text) {
  const found = SIGNAL.exec(text)
  if (!found) return undefined
  const value = found[2].split('.').reduce((from, key) => from?.[key], signals)
  return found[1] ? !value : value
}

function duration(mods, otherwise) {
  const text = mods.find((mod) => /^\d+(ms|s)?$/.test(mod))
  if (!text) return otherwise
  return parseFloat(text) * (/\ds$/.test(text) ? 1000 : 1)
}

const START = {
  init: (el, value) => perform(el, value),
  'on-interval': (el, value, mods) => {
    const timer = setInterval(() => perform(el, value), duration(mods, 1000))
    return () => clearInterval(timer)
  },
  text: (el, value) => show(el, 'text', value),
  show: (el, value) => show(el, 'show', value),
  signals: (el, value) => {
    try {
      merge(signals, JSON.parse(value), false)
      refresh()
    } catch {
      console.warn('omniq: signals are not JSON', value)
    }
  },
}

function listen(el, event, value, mods) {
  const hear = (evt) => {
    if (event === 'submit' || mods.includes('prevent')) evt.preventDefault()
    if (mods.includes('stop')) evt.stopPropagation()
    perform(el, value, evt)
  }
  el.addEventListener(event, hear)
  return () => el.removeEventListener(event, hear)
}

function show(el, what, value) {
  const now = signal(value)
  if (now === undefined) return
  if (what === 'show') el.hidden = !now
  else if (el.textContent !== String(now)) el.textContent = String(now)
}

/** Start what an element's attributes ask for; again for an unchanged one has no effect. */
function start(el) {
  const before = running.get(el)
  let now = before
  for (const { name, value } of el.attributes) {
    if (!name.startsWith('data-')) continue
    const [head, ...mods] = name.slice(5).split('__')
    const flat = mods.flatMap((mod) => mod.split('.'))
    const [key, event] = head.split(':')
    const begin = key === 'on' && event ? () => listen(el, event, value, flat) : START[key]
    if (!begin || now?.get(name)?.value === value) continue
    now?.get(name)?.stop?.()
    if (!now) running.set(el, (now = new Map()))
    const stop = begin(el, value, flat)
    now.set(name, { value, stop: typeof stop === 'function' ? stop : null })
  }
  for (const [name, { stop }] of before ?? []) {
    if (!el.hasAttribute(name)) {
      stop?.()
      before.delete(name)
    }
  }
}

function startAll(root) {
  if (root.nodeType !== 1) return
  start(root)
  for (const el of root.querySelectorAll('*')) start(el)
}

function stopAll(root) {
  if (root.nodeType !== 1 || root.isConnected) return
  for (const el of [root, ...root.querySelectorAll('*')]) {
    for (const { stop } of running.get(el)?.values() ?? []) stop?.()
    running.delete(el)
  }
}

// ---- signals

function merge(into, from, onlyMissing) {
  for (const [key, value] of Object.entries(from)) {
    if (['__proto__', 'constructor', 'prototype'].includes(key)) continue
    if (value === null) {
      if (!onlyMissing) delete into[key]
    } else if (typeof value === 'object' && !Array.isArray(value)) {
      if (typeof into[key] !== 'object' || into[key] === null) into[key] = {}
      merge(into[key], value, onlyMissing)
    } else if (!onlyMissing || !(key in into)) {
      into[key] = value
    }
  }
}

function refresh() {
  for (const el of document.querySelectorAll('[data-text]')) show(el, 'text', el.dataset.text)
  for (const el of document.querySelectorAll('[data-show]')) show(el, 'show', el.dataset.show)
}

/** Signals that go with a request: all but those whose name starts with "_". */
const sent = () =>
  JSON.stringify(Object.fromEntries(Object.entries(signals).filter(([k]) => !k.startsWith('_'))))

// ---- requests

const tell = (el, type, more = {}) =>
  document.dispatchEvent(
    new CustomEvent('datastar-fetch', { detail: { type, el, argsRaw: more } }),
  )

function perform(el, text, evt) {
  const asked = call(text)
  if (!asked) {
    console.warn('omniq: this is no call the module makes', text)
    return null
  }
  const control = new AbortController()
  void follow(el, asked, control, evt)
  return () => control.abort()
}

const visible = () => !document.hidden && !paused

/** Resolves once the page is looked at and not paused, or the signal aborts. */
const wanted = (signal) =>
  new Promise((resolve) => {
    if (visible() || signal.aborted) return resolve()
    const look = () => {
      if (!visible() && !signal.aborted) return
      document.removeEventListener('visibilitychange', look)
      document.removeEventListener('omniq-pause', look)
      signal.removeEventListener('abort', look)
      resolve()
    }
    document.addEventListener('visibilitychange', look)
    document.addEventListener('omniq-pause', look)
    signal.addEventListener('abort', look)
  })

const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })

/** As `sleep`, but over as soon as the page is looked at again, goes on, or changed something. */
const rest = (ms, signal) =>
  new Promise((resolve) => {
    const back = () => visible() && done()
    const acted = (evt) => evt.detail.type === 'finished' && !evt.detail.el?.dataset.every && done()
    const done = () => {
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', back)
      document.removeEventListener('omniq-pause', back)
      document.removeEventListener('datastar-fetch', acted)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    document.addEventListener('visibilitychange', back)
    document.addEventListener('omniq-pause', back)
    document.addEventListener('datastar-fetch', acted)
    signal.addEventListener('abort', done)
  })

const FINAL = [400, 401, 403, 404, 405, 410, 421]

async function follow(el, asked, control, evt) {
  const { options } = asked
  const lasting = options.retry === 'always'
  const first = options.retryInterval ?? 1000
  let wait = first
  for (let tries = 0; !control.signal.aborted; ) {
    if (lasting && !options.openWhenHidden) await wanted(control.signal)
    if (control.signal.aborted || !el.isConnected) return
    const round = new AbortController()
    const end = () => round.abort()
    const leave = () => lasting && !visible() && end()
    control.signal.addEventListener('abort', end)
    document.addEventListener('visibilitychange', leave)
    document.addEventListener('omniq-pause', leave)
    try {
      tell(el, 'started')
      const status = await once(el, asked, round.signal, evt)
      if (FINAL.includes(status)) {
        tell(el, 'retries-failed', { status: String(status) })
        return
      }
      if (status >= 400) throw new Error(`status ${status}`)
      tell(el, 'finished')
      if (!lasting || status === 204) return
      ;[wait, tries] = [first, 0]
      const every = Number(el.dataset.every)
      if (every) await rest(every * (0.9 + 0.2 * Math.random()), control.signal)
      else await sleep(100 + 200 * Math.random(), control.signal)
    } catch (error) {
      if (control.signal.aborted) return
      if (round.signal.aborted) continue // paused, or out of sight
      tell(el, 'error', { message: String(error) })
      if (options.retry === 'never' || asked.method === 'POST') return
      tries += 1
      if (tries > (options.retryMaxCount ?? 10)) {
        tell(el, 'retries-failed')
        return
      }
      tell(el, 'retrying', { message: String(error) })
      await sleep(wait * (0.8 + 0.4 * Math.random()), control.signal)
      wait = Math.min(wait * (options.retryScaler ?? 2), options.retryMaxWait ?? 30000)
    } finally {
      control.signal.removeEventListener('abort', end)
      document.removeEventListener('visibilitychange', leave)
      document.removeEventListener('omniq-pause', leave)
    }
  }
}

async function once(el, { method, url, options }, signal, evt) {
  const headers = { Accept: 'text/event-stream, text/html', 'Datastar-Request': 'true' }
  const target = new URL(url)
  const request = { method, headers, signal, credentials: 'same-origin' }
  const form = options.contentType === 'form' ? el.closest('form') : null
  if (form) {
    if (!form.checkValidity()) return form.reportValidity(), 204
    request.body = new URLSearchParams(new FormData(form, evt?.submitter))
  } else if (method === 'POST') {
    headers['Content-Type'] = 'application/json'
    request.body = sent()
  } else if (Object.keys(signals).length) {
    target.searchParams.set('datastar', sent())
  }
  form?.setAttribute('aria-busy', 'true')
  try {
    const answer = await fetch(target, request)
    const kind = answer.headers.get('content-type') ?? ''
    if (kind.startsWith('text/event-stream')) await events(el, answer.body)
    else if (answer.ok && kind.startsWith('text/html')) patch({ elements: await answer.text() })
    else await answer.body?.cancel()
    return answer.status
  } finally {
    form?.removeAttribute('aria-busy')
  }
}

/** Read server-sent events as they come and act on them. */
async function events(el, body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let buffer = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    buffer += value
    for (let cut; (cut = /\r?\n\r?\n/.exec(buffer)); ) {
      const event = buffer.slice(0, cut.index)
      buffer = buffer.slice(cut.index + cut[0].length)
      act(el, event)
    }
  }
}

function act(el, text) {
  let name = 'message'
  const data = {}
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith('event:')) name = line.slice(6).trim()
    if (!line.startsWith('data:')) continue
    const [, key, value] = /^(\S+) ?(.*)$/s.exec(line.slice(5).trimStart()) ?? []
    if (key) data[key] = key in data ? `${data[key]}\n${value}` : value
  }
  if (name === 'datastar-patch-elements') patch(data)
  else if (name === 'datastar-patch-signals') {
    merge(signals, JSON.parse(data.signals ?? '{}'), data.onlyIfMissing === 'true')
    refresh()
  } else return
  tell(el, name, data)
}

// ---- start

document.addEventListener('omniq-pause', (evt) => (paused = evt.detail === true), true)
new MutationObserver((changes) => {
  for (const change of changes) {
    if (change.type === 'attributes') start(change.target)
    for (const node of change.removedNodes) stopAll(node)
    for (const node of change.addedNodes) startAll(node)
  }
}).observe(document.documentElement, { subtree: true, childList: true, attributes: true })
startAll(document.documentElement)
