// Puts what the daemon rendered anew into the page that is open, touching only what differs: what has the focus, what
// is selected and what is scrolled stays. No text is ever read as HTML here: both trees come from the parser.

export function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || from.id !== to.id) {
    from.replaceWith(document.importNode(to, true));
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.hasAttribute("data-keep") || from === document.activeElement) return;
  if (from.nodeName === "DETAILS") to.open = from.open;
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  children(from, to);
}

function children(from, to) {
  const wanted = [...to.childNodes];
  const kept = new Map([...from.children].filter((each) => each.id).map((each) => [each.id, each]));
  let at = from.firstChild;
  for (const each of wanted) {
    const known = each.id ? kept.get(each.id) : undefined;
    if (known !== undefined && known !== at) {
      from.insertBefore(known, at);
      at = known;
    }
    if (at === null) {
      from.append(document.importNode(each, true));
      continue;
    }
    const next = at.nextSibling;
    morph(at, each);
    at = next;
  }
  while (at !== null) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
