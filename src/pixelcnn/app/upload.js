// A choice of files: they are read in the browser and become the component's value, as data URLs joined by spaces.
//
// Gradio runs it once, with `element` and `props`. MAX_BYTES is replaced by the server's limit; of larger files only
// "large:" and their size are sent, of files that cannot be read "unreadable:", and the server answers with its message.

const input = element.querySelector("input");
const read = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = failed;
  reader.readAsDataURL(file);
});
let latest = 0;

input.addEventListener("change", async () => {
  const files = Array.from(input.files), number = ++latest;
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  props.value = null; // until these have been read, or a click would send those chosen before
  if (!files.length) return;
  if (bytes > MAX_BYTES) {
    props.value = "large:" + bytes;
    return;
  }
  const urls = await Promise.all(files.map(read)).catch(() => null);
  if (number === latest) props.value = urls ? urls.join(" ") : "unreadable:"; // unless others were chosen meanwhile
});
