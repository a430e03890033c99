// Keeps the four numbers up to date while tasks are at work, and shows the new shelves once
// they are done. Without it the page shows how things stood when it was opened.
const box = document.querySelector("[data-at-work]");
const show = (counts) => {
  for (const [name, count] of Object.entries(counts)) {
    const cell = box.querySelector(`[data-count=${name}]`);
    if (cell) cell.textContent = count;
  }
};
let busy = Number(box.querySelector("[data-count=waiting]").textContent) > 0
  || Number(box.querySelector("[data-count=running]").textContent) > 0;

async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch(box.dataset.atWork, { headers: { accept: "application/json" } });
      const counts = await answer.json();
      show(counts);
      const now = counts.waiting + counts.running > 0;
      if (busy && !now) location.reload();
      busy = now;
    } catch {
      // The server is away for a moment: the next look may find it.
    }
  }
  setTimeout(look, busy ? 500 : 3000);
}
setTimeout(look, 500);
