// Prints the first results of the built site's search for each query, as JSON.
// node search.cjs HTML-FOLDER QUERY...
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const [folder, ...queries] = process.argv.slice(2);
const element = () => ({
  classList: { add() {}, remove() {} }, dataset: {}, style: {}, innerText: "", appendChild() {},
  querySelector: () => null, querySelectorAll: () => [], removeChild() {}, setAttribute() {},
});
const page = {
  ...element(), body: element(), documentElement: element(), readyState: "loading",
  addEventListener() {}, createElement: element, getElementById: () => null,
};
const scope = {
  console, document: page, window: {}, URLSearchParams, URL, DOMParser: class {}, Map, Set,
  localStorage: { getItem: () => null, setItem() {} }, location: { hash: "", search: "" },
  _: (text) => text, Documentation: { ngettext: (text) => text },
};
scope.window = scope;
vm.createContext(scope);
const names = ["documentation_options.js", "language_data.js", "searchtools.js"];
const code = names.map((name) => fs.readFileSync(path.join(folder, "_static", name), "utf8"));
const index = fs.readFileSync(path.join(folder, "searchindex.js"), "utf8");
const ready = "var _ready = () => {}; var SPHINX_HIGHLIGHT_ENABLED = false;";
const search = `
  ${index}
  const found = {};
  for (const query of ${JSON.stringify(queries)}) {
    location.search = "?q=" + encodeURIComponent(query);
    const results = Search._performSearch(...Search._parseQuery(query));
    found[query] = results.slice(-10).reverse().map((result) => result[0] + " | " + result[1]);
  }
  console.log(JSON.stringify(found));
`;
vm.runInContext([ready, ...code, search].join("\n"), scope);
