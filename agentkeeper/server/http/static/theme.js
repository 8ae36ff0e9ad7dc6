// Before anything is painted: the theme that was chosen, or none, which follows the system.
"use strict";
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("agentkeeper-theme");
  } catch {
    // Storage may be forbidden; the system's theme is as good.
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
