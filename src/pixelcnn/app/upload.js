// A choice of files: they are read in the browser and become the component's value, as data URLs joined by spaces.
//
// Gradio runs it once, with `element` and `props`. MAX_BYTES is replaced by the server's limit; of larger files only
// "large:" and their size are sent, and the server answers with its message.

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
  if (!files.length) {
    props.value = null;
    return;
  }
  if (bytes > MAX_BYTES) {
    props.value = "large:" + bytes;
    return;
  }
  const urls = await Promise.all(files.map(read)).catch(() => []);
  if (number === latest) props.value = urls.join(" "); // unless other files have been chosen meanwhile
});
