// Draws every figure, in the colours of the scheme that the reader has chosen.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const templates = read("templates");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const figures = [...document.querySelectorAll("[data-figure]")];
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };

  const draw = (place) => {
    const { data, layout } = read(place.dataset.figure);
    const template = templates[dark.matches ? "dark" : "light"];
    // on a touch screen a finger on a figure scrolls the page
    return Plotly.react(place, data, { ...layout, template, dragmode: touch ? false : "zoom" }, config);
  };

  const drawAll = async () => {
    for (const place of figures) {
      await draw(place);
      await new Promise((resume) => setTimeout(resume));
    }
    document.documentElement.dataset.drawn = dark.matches ? "dark" : "light";
  };

  drawAll();
  dark.addEventListener("change", drawAll);
})();
