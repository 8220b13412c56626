// The drawing pad of the tab "Score": white strokes on black. Its value is the drawing as a data URL, null when empty.
//
// Gradio runs it once, with `element` and `props`.

const canvas = element.querySelector("canvas"), brush = canvas.getContext("2d", { willReadFrequently: true });
let last = null;

function clear() {
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, canvas.width, canvas.height);
}

function position(event) {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

function stroke(event) {
  const next = position(event);
  brush.strokeStyle = "#fff";
  brush.lineWidth = 22;
  brush.lineCap = "round";
  brush.beginPath();
  brush.moveTo(...last);
  brush.lineTo(...next);
  brush.stroke();
  last = next;
}

clear();
canvas.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  last = position(event);
  stroke(event);
});
canvas.addEventListener("pointermove", (event) => last && stroke(event));
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, () => {
    if (last) props.value = canvas.toDataURL("image/png");
    last = null;
  });
}
element.querySelector("button").addEventListener("click", () => {
  clear();
  props.value = null;
});
