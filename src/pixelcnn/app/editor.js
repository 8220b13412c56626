// The editor of the tab "Complete": the pixels of an image, enlarged, and which of them are hidden.
//
// Gradio runs it once, with `element`, `props`, `trigger` and `watch`; `props.value` is the string that
// pixelcnn.app.tabs.complete describes. A visitor's picture is sent with the event "upload", for the server to read.

const canvas = element.querySelector("canvas");
const file = element.querySelector("input[type=file]");
const brush = element.querySelector("input[type=range]");
const message = element.querySelector(".px-editor-message");
const context = canvas.getContext("2d", { willReadFrequently: true });
const pixels = document.createElement("canvas"); // as many as the image has
let state, height, width, image, hidden, scale;
let tool = "hide", cursor = null, last = null;

function open() {
  if (!props.value) return; // the model's images are too large, which the tab says
  const before = state, mask = hidden;
  state = JSON.parse(props.value);
  [, height, width] = state.shape;
  image = new Uint16Array(Uint8Array.from(atob(state.image), (letter) => letter.charCodeAt(0)).buffer);
  hidden = Uint8Array.from(state.hidden, Number);
  scale = Math.max(1, Math.floor(448 / Math.max(height, width)));
  [pixels.width, pixels.height, canvas.width, canvas.height] = [width, height, width * scale, height * scale];
  const stays = before && String(before.shape) === String(state.shape) && !mask.every(Number);
  if (stays && mask.join("") !== state.hidden) {
    hidden = mask; // another image, the same pixels hidden
    keep();
  } else draw();
}

function draw() {
  const plane = height * width, colour = state.shape[0] === 3;
  const shown = new ImageData(width, height);
  for (let k = 0; k < plane; k++) {
    for (let c = 0; c < 3; c++) {
      const level = (image[k + (colour ? c * plane : 0)] * 255) / (state.levels - 1);
      shown.data[4 * k + c] = hidden[k] ? 0.2 * level + 0.8 * [214, 120, 60][c] : level;
    }
    shown.data[4 * k + 3] = 255;
  }
  pixels.getContext("2d").putImageData(shown, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(pixels, 0, 0, canvas.width, canvas.height);
  if (cursor && document.activeElement === canvas) {
    context.strokeStyle = "#2dd4bf";
    context.lineWidth = 3;
    context.strokeRect(cursor[0] * scale + 1.5, cursor[1] * scale + 1.5, scale - 3, scale - 3);
  }
}

function keep() {
  let letters = "";
  for (const byte of new Uint8Array(image.buffer)) letters += String.fromCharCode(byte);
  props.value = JSON.stringify({ ...state, image: btoa(letters), hidden: hidden.join("") });
  draw();
}

function paint(x, y) {
  const reach = Number(brush.value) / 2, plane = height * width;
  for (let i = Math.max(0, Math.ceil(y - reach)); i <= Math.min(height - 1, y + reach); i++) {
    for (let j = Math.max(0, Math.ceil(x - reach)); j <= Math.min(width - 1, x + reach); j++) {
      if ((i - y) ** 2 + (j - x) ** 2 > reach * reach) continue;
      const k = i * width + j;
      hidden[k] = tool === "hide" ? 1 : 0;
      if (tool !== "white" && tool !== "black") continue;
      for (let c = k; c < image.length; c += plane) image[c] = tool === "white" ? state.levels - 1 : 0;
    }
  }
}

function under(event) {
  const box = canvas.getBoundingClientRect();
  return [
    Math.floor(((event.clientX - box.left) / box.width) * width),
    Math.floor(((event.clientY - box.top) / box.height) * height),
  ];
}

function stroke(event) {
  const [x, y] = under(event), [a, b] = last;
  const steps = Math.max(1, Math.abs(x - a), Math.abs(y - b));
  for (let s = 0; s <= steps; s++) paint(Math.round(a + ((x - a) * s) / steps), Math.round(b + ((y - b) * s) / steps));
  last = [x, y];
  draw();
}

const fills = {
  middle: (y) => y >= Math.round(0.36 * height) && y < Math.max(Math.round(0.36 * height) + 1, Math.round(0.64 * height)),
  bottom: (y) => y >= Math.floor(height / 2),
  right: (y, x) => x >= Math.floor(width / 2),
  all: () => true,
  nothing: () => false,
  swap: (y, x) => !hidden[y * width + x],
  blank: () => true,
};

function choose(name) {
  tool = name;
  for (const button of element.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  [cursor, last] = [null, under(event)];
  stroke(event);
});
canvas.addEventListener("pointermove", (event) => last && stroke(event));
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, () => {
    if (last) keep();
    last = null;
  });
}
canvas.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] }[event.key];
  if (!move) return;
  event.preventDefault();
  const [x, y] = cursor ?? [Math.floor(width / 2), Math.floor(height / 2)];
  cursor = [Math.min(width - 1, Math.max(0, x + move[0])), Math.min(height - 1, Math.max(0, y + move[1]))];
  if (event.key === " ") {
    paint(...cursor);
    keep();
  } else draw();
});
canvas.addEventListener("blur", draw);
element.addEventListener("click", (event) => {
  const { tool: named, fill } = event.target.closest("button")?.dataset ?? {};
  if (named) choose(named);
  if (!fill) return;
  hidden = hidden.map((_, k) => Number(fills[fill](Math.floor(k / width), k % width)));
  if (fill === "blank") {
    image.fill(0);
    choose("white");
  }
  keep();
});
file.addEventListener("change", async () => {
  const [chosen] = file.files;
  file.value = "";
  message.textContent = "";
  if (!chosen) return;
  if (chosen.size > Number(file.dataset.maxBytes)) {
    message.textContent = `The file may have at most ${file.dataset.maxBytes} bytes; it has ${chosen.size}.`;
    return;
  }
  const reader = new FileReader();
  reader.onerror = () => (message.textContent = "The file cannot be read.");
  reader.onload = () => trigger("upload", { content: reader.result.slice(reader.result.indexOf(",") + 1) });
  reader.readAsDataURL(chosen);
});
watch("value", open);
open();
