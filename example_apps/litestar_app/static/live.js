// Keeps the album up to date: fetch its part of the page, put in what differs.

const QUICK = 600;
const SLOW = 4000;
const upload = document.getElementById("upload");
const chooser = document.getElementById("pictures");

function merge(old, fresh) {
  // Elements with the same id are kept and compared, so that pictures do not flicker.
  if (old.isEqualNode(fresh)) return;
  const known = new Map([...old.children].filter((e) => e.id).map((e) => [e.id, e]));
  if (![...fresh.children].some((child) => known.has(child.id))) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const mine = child.id ? known.get(child.id) : undefined;
    if (!mine) {
      old.insertBefore(child, at);
      continue;
    }
    known.delete(child.id);
    if (mine === at) at = at.nextSibling;
    else old.insertBefore(mine, at);
    merge(mine, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch("/live", { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("album");
  if (fresh) merge(document.getElementById("album"), document.adoptNode(fresh));
}

async function follow() {
  try {
    await refresh();
    document.body.classList.remove("offline");
  } catch {
    document.body.classList.add("offline"); // the server is away: go on asking
  }
  const busy = document.getElementById("album").dataset.busy === "yes";
  setTimeout(follow, busy ? QUICK : SLOW);
}

chooser.addEventListener("change", () => chooser.files.length && upload.requestSubmit());
upload.addEventListener("submit", () => upload.classList.add("sending"));
for (const [name, over] of [["dragenter", 1], ["dragover", 1], ["dragleave", 0], ["drop", 0]]) {
  upload.addEventListener(name, () => upload.classList.toggle("over", over === 1));
}
window.addEventListener("pageshow", () => upload.classList.remove("sending"));
setTimeout(follow, QUICK);
