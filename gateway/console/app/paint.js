/** Sets the chosen colours before the first paint, so that nothing flashes. A classic script in the page's head. */
(function () {
  try {
    var theme = localStorage.getItem("millrace.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (error) {
    document.documentElement.dataset.storage = "forbidden"; // the page then uses the system's colours
  }
})();
