// What pages do for themselves: colours, ages that go on, pause, keys, toasts. All of it is
// comfort: pages work without this file.

const root = document.documentElement
const skew = Date.now() - Number(root.dataset.now || Date.now())

// ---- colours

for (const form of document.querySelectorAll('form.themes')) {
  form.addEventListener('submit', (evt) => {
    const chosen = evt.submitter?.value
    if (!chosen) return
    evt.preventDefault()
    root.dataset.theme = chosen
    for (const button of form.querySelectorAll('button')) {
      button.setAttribute('aria-pressed', String(button.value === chosen))
    }
    const path = new URL('.', form.action).pathname.replace(/\/$/, '') || '/'
    const secure = location.protocol === 'https:' ? '; Secure' : ''
    const life = 365 * 86400
    document.cookie = `omniq_theme=${chosen}; Path=${path}; Max-Age=${life}; SameSite=Strict${secure}`
  })
}

// ---- times

const UNITS = [
  [86400, 'd'],
  [3600, 'h'],
  [60, 'min'],
]

function ago(ms) {
  const away = Date.now() - skew - ms
  if (Math.abs(away) < 1500) return 'now'
  const seconds = Math.floor(Math.abs(away) / 1000)
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? [1, 's']
  const text = `${Math.floor(seconds / size)} ${unit}`
  return away > 0 ? `${text} ago` : `in ${text}`
}

const local = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })

function tick() {
  for (const el of document.querySelectorAll('time[data-ago]')) {
    const text = ago(Date.parse(el.dateTime))
    if (el.textContent !== text) el.textContent = text
  }
}

for (const type of ['pointerover', 'focusin']) {
  document.addEventListener(type, (evt) => {
    const el = evt.target.closest?.('time')
    if (el?.dateTime) el.title = `${local.format(Date.parse(el.dateTime))} here`
  })
}
setInterval(tick, 1000)

// ---- live or not

const connection = document.getElementById('connection')
const pause = document.getElementById('pause')
const WORDS = {
  off: 'Static',
  live: 'Live',
  paused: 'Paused',
  lost: 'Reconnecting',
  ended: 'Reload to go on',
}
let paused = false

function state(name) {
  if (!connection || connection.dataset.state === name) return
  connection.dataset.state = name
  connection.querySelector('.word').textContent = WORDS[name]
}

document.addEventListener('datastar-fetch', (evt) => {
  const { type, el } = evt.detail
  if (el?.id === 'live') {
    if (type.startsWith('datastar-patch') && !paused) state('live')
    if (type === 'error' || type === 'retrying') state('lost')
    if (type === 'retries-failed') state('ended')
  } else if (type === 'error' || type === 'retries-failed') {
    toast('That did not go through. Reload the page and try again.')
  }
})

function setPaused(on) {
  paused = on
  pause.setAttribute('aria-pressed', String(on))
  pause.title = on ? 'Go on (p)' : 'Pause (p)'
  pause.querySelector('.sr').textContent = on ? 'Go on with live updates' : 'Pause live updates'
  state(on ? 'paused' : 'lost')
  document.dispatchEvent(new CustomEvent('omniq-pause', { detail: on }))
}

if (pause && [...document.scripts].some((script) => /\/live\.js$/.test(script.src))) {
  pause.hidden = false
  pause.addEventListener('click', () => setPaused(!paused))
}

// ---- keys

document.addEventListener('keydown', (evt) => {
  if (evt.ctrlKey || evt.metaKey || evt.altKey) return
  if (evt.key === 'Escape') document.getElementById('toasts')?.replaceChildren()
  if (evt.target.closest?.('input, select, textarea, [contenteditable]')) return
  if (evt.key === 'p' && pause && !pause.hidden) pause.click()
  const target = document.querySelector(`[data-key="${CSS.escape(evt.key)}"]`)
  if (target) {
    evt.preventDefault()
    target.focus()
  }
})

// ---- toasts and notices

const toasts = document.getElementById('toasts')

function toast(text) {
  const box = document.createElement('div')
  box.className = 'notice toast warn'
  box.setAttribute('role', 'status')
  const words = document.createElement('p')
  words.textContent = text
  box.append(words)
  toasts?.append(box)
}

if (toasts) {
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        if (node.nodeType !== 1) continue
        const life = node.classList.contains('warn') ? 9000 : 5000
        const leave = () => (node.matches(':hover') ? setTimeout(leave, 1000) : node.remove())
        setTimeout(leave, life)
      }
    }
  }).observe(toasts, { childList: true })
}

const here = new URL(location.href)
if (here.searchParams.has('notice')) {
  here.searchParams.delete('notice')
  history.replaceState(history.state, '', here)
}
