// Before anything is painted, so that a page with colours of its own choice does not flash in the system's.
// The only script that is no module: modules run after the first paint. `theme.js` has the rest.
try {
  const chosen = localStorage.getItem("foreman.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is closed to this page: the system's colours, then.
}
