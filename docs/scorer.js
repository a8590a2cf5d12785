// Scores of search results: the page of a technique comes before a page that only mentions it, and
// a title of which every word is in the query before a longer one.
var Scorer = {
  score: (result) => {
    const [docname, title, , , score, , kind] = result;
    const query = new URLSearchParams(window.location.search).get("q") || "";
    const words = query.toLowerCase().split(/\s+/).filter((word) => word.length > 2);
    let value = score + 3 * words.filter((word) => title.toLowerCase().includes(word)).length;
    const own = title.toLowerCase().split(/\s+/);
    if (own.every((word) => words.includes(word))) value += 8;
    if (docname.startsWith("techniques/") && docname.split("/").length > 2) value += 12;
    if (kind === "object") value += 4;
    if (docname.startsWith("_modules/")) value -= 20;
    return value;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
