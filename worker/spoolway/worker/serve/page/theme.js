/* Light or dark, before anything is drawn: a classic script in the head. */

(() => {
  const KEY = "spoolway.theme";
  const kept = localStorage.getItem(KEY);
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
