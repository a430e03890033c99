// Keeps a page up to date: listens for how its reports stand, and moves words and bars.
// When one of them comes to its end, the part of the page about it is fetched and put in place.

const said = document.getElementById("said");
let source;

function content() {
  return document.getElementById("content");
}

function show(standing) {
  const place = document.querySelector(`[data-report="${CSS.escape(standing.id)}"]`);
  if (!place) return false;
  const word = place.querySelector(".word");
  const bar = place.querySelector("progress");
  const count = place.querySelector(".count");
  const detail = place.querySelector(".detail");
  // A word that changes can bring or take away bars and buttons: the server draws those.
  if (word.textContent !== standing.word) return true;
  if (bar) {
    bar.max = standing.total;
    bar.value = standing.done;
  }
  if (detail) detail.textContent = standing.detail;
  if (count && standing.state === "reading") {
    const [done, total] = [standing.done, standing.total].map((n) => n.toLocaleString("en"));
    count.textContent = `${done} of ${total} lines`;
  }
  return false;
}

async function redraw() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement?.closest("button, a")?.textContent;
  for (const old of document.querySelectorAll("[data-redraw]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh) continue;
    const held = old.contains(document.activeElement);
    old.replaceWith(document.adoptNode(fresh));
    const same = [...fresh.querySelectorAll("button, a")].find((e) => e.textContent === focused);
    if (held) (same ?? fresh.querySelector("button, a"))?.focus({ preventScroll: true });
  }
  content().dataset.busy = page.getElementById("content").dataset.busy;
  const word = content().querySelector("#progress .word");
  if (word && said.textContent !== word.textContent) said.textContent = word.textContent;
}

function follow() {
  const { busy, live } = content().dataset;
  if (busy !== "yes" || !live) return;
  source = new EventSource(live);
  source.addEventListener("standing", (event) => {
    document.body.classList.remove("offline");
    const changed = JSON.parse(event.data).map(show).some(Boolean);
    if (changed) redraw();
  });
  source.addEventListener("end", () => {
    source.close();
    redraw();
  });
  source.addEventListener("error", () => {
    // Streams end by themselves after a while; only one that cannot be opened is a worry.
    const gone = source.readyState === EventSource.CLOSED;
    document.body.classList.toggle("offline", gone);
    if (gone) setTimeout(follow, 2000);
  });
}

const upload = document.getElementById("upload");
upload?.addEventListener("submit", () => upload.classList.add("sending"));
window.addEventListener("pageshow", () => upload?.classList.remove("sending"));
window.addEventListener("pagehide", () => source?.close());
follow();
