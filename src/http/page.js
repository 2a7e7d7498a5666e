// Lays out status.json, jobs.json, job/ID, manifest/ID and search. Names of files and words of the API are hostile: every
// text goes through textContent, and nothing here makes markup of a text.
"use strict";

const VISIBLE_MS = 2000;
const HIDDEN_MS = 30000;
const OLD_MS = 10000;
const SIGNS = {
  well: "M2.5 8.5l3.5 4 7.5-9",
  stopped: "M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13M5.5 5.5l5 5M10.5 5.5l-5 5",
  person: "M8 1.8L15 14H1zM8 6.4v3.4M8 12v.01",
  wait: "M5.2 3v10M10.8 3v10",
};
const MEANINGS = { well: "well", stopped: "stopped", person: "needs a person", wait: "waits" };
const LIMITS = {
  documents_per_hour: "limits.documents_per_hour", requests_per_second: "limits.requests_per_second",
  bytes_per_second: "limits.bytes_per_second", windows: "limits.windows", api_quota: "the API’s own limit",
  retry: "the last retry",
};
const LEVEL_OF = { failed: "stopped", held: "person", waiting: "wait" };

const byId = (id) => document.getElementById(id);
const SVG = byId("svg").namespaceURI;

// Control characters, and those that turn the direction of writing, would make one name look like another.
const safe = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
  (character) => "\\u{" + character.codePointAt(0).toString(16) + "}");

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  for (const child of children.flat(9)) {
    if (child !== null && child !== undefined && child !== false) made.append(child.nodeType ? child : safe(child));
  }
  return made;
}
const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

const count = (number) => number.toLocaleString("en-GB");
const sign = (level) => s("svg", { class: `sign ${level}`, viewBox: "0 0 16 16", "aria-hidden": "true" },
  s("path", { d: SIGNS[level] }));
const number = (value, isBad) => h("span", { class: value === 0 ? "zero" : isBad ? "bad" : null }, count(value));

// The difference to the server's clock, so that "ago" is right on a machine whose clock is not.
let ahead = 0;
const now = () => Date.now() + ahead;

function inWords(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

let zone;
const inZone = (options) => {
  try { return new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone, hourCycle: "h23" }); }
  catch { return new Intl.DateTimeFormat("en-GB", { ...options, hourCycle: "h23" }); }
};
function clock(moment, withSeconds) {
  const at = Date.parse(moment);
  const time = { hour: "2-digit", minute: "2-digit", ...(withSeconds && { second: "2-digit" }) };
  const day = inZone({ dateStyle: "short" });
  if (day.format(at) === day.format(now())) return inZone(time).format(at);
  const near = Math.abs(at - now()) < 6 * 864e5;
  return inZone(near ? { weekday: "short", ...time } : { day: "numeric", month: "short", ...time }).format(at);
}
const time = (moment, words) => h("time", { datetime: moment, title: moment }, words || clock(moment));
// Counts on by itself, without its section being drawn again.
const passed = (moment, before = "", after = "") => {
  const made = h("time", { datetime: moment, title: moment, "data-before": before, "data-after": after });
  tell(made);
  return made;
};
function tell(made) {
  const text = made.dataset.before + inWords(Math.abs(now() - Date.parse(made.dateTime))) + made.dataset.after;
  if (made.textContent !== text) made.textContent = text;
}

function say(text) {
  byId("said").textContent = "";
  setTimeout(() => { byId("said").textContent = text; }, 50);
}

function command(text) {
  const line = h("pre", {}, text);
  const copy = h("button", { type: "button", "aria-label": `Copy: ${safe(text)}`, onclick: async () => {
    try { await navigator.clipboard.writeText(text); } catch { getSelection().selectAllChildren(line); }
    copy.textContent = "Copied";
    say("Copied");
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  } }, "Copy");
  return h("div", { class: "command" }, line, copy);
}

const state = (level, words) => h("span", { class: `state ${level}` }, level === "well" ? null : sign(level), words);
const head = (title, ...right) => h("div", { class: "head" }, h("h2", {}, title), right);
const link = (kind, id, text) => h("a", { href: `#${kind}/${encodeURIComponent(id)}` }, text);

// Rows become cards where it is narrow; the roles are spelt out, because display: block takes them away.
function table(name, columns, rows) {
  return h("div", { class: "card table" }, h("table", { role: "table", "aria-label": name },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(([title, kind]) =>
      h("th", { role: "columnheader", scope: "col", class: kind }, title)))),
    h("tbody", { role: "rowgroup" }, rows.map((cells) => h("tr", { role: "row" }, cells.map((cell, at) =>
      h("td", { role: "cell", "data-label": columns[at][0], class: columns[at][1] }, cell)))))));
}

function parts(of, label) {
  const total = of.reduce((sum, [value]) => sum + value, 0) || 1;
  let x = 0;
  return s("svg", { class: "parts", viewBox: "0 0 1000 8", preserveAspectRatio: "none", role: "img", "aria-label": label },
    of.map(([value, tone]) => {
      const width = value / total * 1000;
      x += width;
      return tone ? s("rect", { class: `fill-${tone}`, x: x - width, width: value ? Math.max(width, 3) : 0, height: 8 }) : null;
    }));
}

// ---- the sections of the whole state: what each depends on, and how it is drawn

const sections = [
  ["incidents", (status) => [status.incidents.filter((one) => one.kind !== "failed")], ([incidents]) => incidents.length === 0 ? null
    : h("section", { class: "stack", "aria-label": "What needs you, and what waits" },
      h("h2", { class: "hidden" }, "What needs you, and what waits"), incidents.map(incident))],
  ["causes", (status) => [status.causes || []], ([causes]) => causes.length === 0 ? null : failures(causes)],
  ["finish", (status) => [status.finish, status.totals], ([finish, totals]) => finish ? whenDone(finish, totals) : null],
  ["series", (status) => [series, span, status.accounts[0]?.in_flight_limit || 0], ([of, , limit]) => of ? whatHappened(of, limit) : null],
  ["drops", (status) => [status.drops || []], ([drops]) => drops.length === 0 ? null : h("section", {}, head("Drops"),
    table("Drops", [["Drop"], ["State"], ["Last manifest"], ["Oldest waiting", "number"], ["To send", "number"],
      ["Created today", "number"], ["Failed", "number"]], drops.map(drop)))],
  ["waiting", (status) => [status.waiting_manifests], ([waiting]) => waiting.length === 0 ? null
    : h("section", {}, head("Not taken in yet"), table("Not taken in yet",
      [["Manifest"], ["Drop"], ["Waits for"], ["For", "number"], ["Taken without", "number"]], waiting.map((one) => [
        one.manifest, one.drop, one.reason, one.first_seen ? passed(one.first_seen) : "–",
        one.gives_up_at ? time(one.gives_up_at) : "never"])))],
  ["accounts", (status) => [status.accounts || []], ([accounts]) => accounts.length === 0 ? null
    : h("section", {}, head("Accounts"), table("Accounts", [["Account"], ["State"], ["Limits"],
      ["Calls in flight", "number"], ["Last answer", "number"]], accounts.map(account)))],
  ["facts", (status) => [status.queue.last_error, status.queue.possible_leftovers, status.queue.possible_extra_files,
    status.queue.to_recheck_since, status.queue.to_recheck, status.queue.drops.map((one) => one.watching)], otherFacts],
];

function incident(one) {
  return h("article", { class: `card incident ${one.level}` },
    h("div", {},
      h("h3", {}, sign(one.level), h("span", { class: "hidden" }, `${MEANINGS[one.level]}: `), capital(one.title)),
      h("p", { class: "soft" }, one.since ? ["since ", time(one.since), " (", passed(one.since), ")"] : null,
        one.until && Date.parse(one.until) > now() ? [one.since ? ", " : "", "until ", time(one.until), " (", passed(one.until, "in "), ")"] : null,
        ` · ${one.scope}`, one.waiting ? ` · ${count(one.waiting)} ${one.waiting === 1 ? "waits" : "wait"}` : ""),
      one.says.map((says) => h("p", { class: "mono says" }, says)),
      one.by_itself ? h("p", { class: "soft" }, capital(one.by_itself), ".") : null,
      one.jobs.length > 0 ? h("p", {}, "Look closer: ", one.jobs.map((job, at) => [at ? ", " : "", link("job", job, `job ${job}`)])) : null),
    h("div", {}, h("p", {}, capital(one.cure), "."), one.commands.map(command)));
}
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function failures(causes) {
  const all = causes.reduce((sum, cause) => sum + cause.open, 0);
  return h("section", { id: "causes" },
    head("Failures by cause", h("span", { class: "soft" }, `${count(all)} not mended, of ${causes.length} ${causes.length === 1 ? "cause" : "causes"}`)),
    h("div", { class: "card table" }, causes.map((cause) => {
      const made = h("details", { "data-key": cause.cause },
        h("summary", {}, h("span", { class: "number bad" }, count(cause.open)), h("b", {}, cause.title), passed(cause.last, "last ", " ago"),
          h("span", { class: "soft" }, [cause.status, cause.code, cause.drops.map((of) => of.drop).join(", ")].filter(Boolean).join(" · "))),
        h("div", {}, h("p", {}, `${capital(cause.cure)}.`), cause.commands.map(command),
          h("p", { class: "soft" }, "First ", time(cause.first), ". ", cause.unseen ? "Nobody has said to know of it." : `Seen by ${cause.seen_by}.`),
          h("p", {}, "For example: ", cause.examples.map((example, at) => [at ? ", " : "", example.job === undefined
            ? link("manifest", example.batch, example.manifest) : link("job", example.job, example.reference || `job ${example.job}`)]))));
      made.open = openCauses.has(String(cause.cause)) || causes.length === 1;
      made.addEventListener("toggle", () => openCauses[made.open ? "add" : "delete"](made.dataset.key));
      return made;
    })));
}
const openCauses = new Set();

function whenDone(finish, totals) {
  const of = (name) => totals[name] || 0;
  const [done, failed] = [of("done") + of("duplicate"), of("failed")];
  const left = of("queued") + of("running") + of("waiting");
  return h("section", {}, head("When will it be done?"), h("div", { class: "card two" },
    h("div", {},
      finish.at ? [h("p", { class: "large" }, time(finish.at)), h("p", {}, passed(finish.at, "in "),
        finish.per_minute ? ` · ${finish.per_minute.toFixed(1)} a minute` : "")] : h("p", { class: "large" }, capital(finish.why || "not known")),
      parts([[done, "well"], [failed, "stopped"], [left, null]], `${count(done)} created, ${count(failed)} failed, ${count(left)} to send`),
      h("p", { class: "soft" }, `${count(done)} created · `, failed ? [h("span", { class: "bad" }, `${count(failed)} failed`), " · "] : null,
        `${count(left)} to send`)),
    h("div", {}, finish.limited_by ? [h("p", { class: "soft" }, "What limits it"),
      h("p", {}, h("b", {}, LIMITS[finish.limited_by] || "the speed of this run"))] : null,
    (finish.limits || []).map((limit) => h("p", { class: "soft" },
      `${LIMITS[limit.limit] || limit.limit}: ${count(Math.round(limit.per_hour))} ${limit.counted} an hour`)),
    (finish.windows || []).length > 0 ? h("p", { class: "soft" }, `Sending windows: ${finish.windows.join("; ")}`) : null)));
}

let span = null;  // a person's choice; without one, the hour, or the day where the hour was empty
function whatHappened(series, limit) {
  const chosen = span || (series.hour.created.some((n) => n > 0) ? "hour" : "day");
  const points = series[chosen];
  const words = chosen === "day" ? "in the last 24 h" : "in the last hour";
  const pick = (name, title) => h("button", { type: "button", "aria-pressed": String(chosen === name), onclick: () => {
    span = name;
    draw();
    byId("view").querySelector(`[data-section=series] button[aria-pressed=true]`)?.focus();
  } }, title);
  const sum = (values) => values.reduce((total, value) => total + (value || 0), 0);
  const most = (values) => Math.max(0, ...values.map((value) => value || 0));
  const last = (values) => values.at(-1) ?? 0;
  const [created, failed, flight] = [points.created, points.failed, points.in_flight];
  const card = (title, value, unit, detail, drawn) => h("div", { class: "card" }, h("h3", {}, title),
    h("p", {}, h("span", { class: "large" }, count(value)), h("small", {}, ` ${unit}`)), h("p", { class: "soft" }, detail),
    drawn(`${title} ${words}: ${detail}`), h("p", { class: "axis" }, h("span", {}, clock(points.start)), h("span", {}, "now")));
  return h("section", {}, head("What happened",
    points.stopped.some(Boolean) ? h("span", { class: "soft" }, "shaded: sending was stopped, or outside its window") : null,
    h("div", { class: "choice", role: "group", "aria-label": "How far back" }, pick("hour", "Last hour"), pick("day", "Last 24 h"))),
  h("div", { class: "three" },
    card("Created", sum(created), words, `at most ${count(most(created))} in ${chosen === "day" ? "15 min" : "a minute"}`,
      (label) => chart(points, created, label, 0, false)),
    card("Failed", sum(failed), words, sum(failed) ? `at most ${count(most(failed))} in ${chosen === "day" ? "15 min" : "a minute"}` : "none",
      (label) => chart(points, failed, label, 0, true)),
    card("Calls in flight", last(flight), "now", `at most ${count(most(flight))} at once`,
      (label) => chart(points, flight, label, limit, false))));
}

// A gap is where no process ran: no line is drawn over it.
function chart(points, values, label, limit, asBars) {
  const top = Math.max(limit, asBars ? 12 : 1, ...values.map((value) => value || 0)) * 1.08;
  const step = 100 / values.length;
  const y = (value) => (48 - value / top * 46).toFixed(1);
  const shade = points.stopped.map((stopped, at) => stopped ? `M${at * step} 0h${step}V48h${-step}Z` : "").join("");
  let before = null;
  const path = values.map((value, at) => {
    const from = before;
    before = value;
    if (value === null) return "";
    if (asBars) return value ? `M${at * step} 48V${y(value)}h${step * 0.8}V48Z` : "";
    return `${from === null ? "M" : "L"}${((at + 0.5) * step).toFixed(2)} ${y(value)}`;
  }).join("");
  return s("svg", { class: "chart", viewBox: "0 0 100 48", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("path", { class: "fill-shade", d: shade }),
    limit ? s("path", { class: "most", d: `M0 ${y(limit)}H100` }) : null,
    s("path", { class: asBars ? "fill-stopped" : "line", d: path }));
}

function drop(one) {
  const last = one.last;
  return [one.name, [state(one.level, one.state), one.since ? h("small", {}, "since ", time(one.since), one.until ? [", until ", time(one.until)] : null) : null],
    last ? [link("manifest", last.batch, last.manifest), h("small", {}, `${last.state} · `, time(last.at))] : h("span", { class: "zero" }, "none"),
    one.oldest ? passed(one.oldest) : h("span", { class: "zero" }, "–"), number(one.to_send), number(one.created_today),
    one.failed > 0 ? h("a", { class: "bad", href: `#jobs/state=failed&drop=${encodeURIComponent(one.name)}` }, count(one.failed)) : number(0)];
}

function account(one) {
  return [[one.name, h("small", {}, one.drops.join(", "))], state(one.level, one.state),
    one.limits.length === 0 ? "none known" : one.limits.map((limit) =>
      h("small", {}, `${LIMITS[limit.limit] || limit.limit}: ${count(Math.round(limit.per_hour))} ${limit.counted} an hour, room for ${count(Math.floor(limit.room))}`)),
    `${count(one.in_flight)} of ${count(one.in_flight_limit)}`, one.answered_at ? passed(one.answered_at, "", " ago") : "–"];
}

function otherFacts([error, leftovers, extra, recheckSince, recheck, ...rest]) {
  const watching = rest[0].filter((how) => how !== null && how !== "events");
  const facts = [];
  if (error) facts.push(["Last error", [link("job", error[0], `job ${error[0]}`), `: ${error[1]}`]]);
  if (recheckSince) facts.push(["Sent twice", [`${count(recheck)} documents, since `, time(recheckSince), ": each profile is read again"]]);
  if (leftovers > 0) facts.push(["Leftovers", `possibly ${count(leftovers)} images whose answers were lost, and that no document uses`]);
  if (extra > 0) facts.push(["Extra files", `possibly ${count(extra)}: the answers to their uploads were lost`]);
  for (const how of watching) facts.push(["Watching", how]);
  return facts.length === 0 ? null : h("section", {}, head("Also"), h("div", { class: "card" }, dl(facts)));
}
const dl = (facts) => h("dl", { class: "facts" }, facts.filter(([, value]) => value !== null && value !== undefined && value !== "")
  .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

// ---- one thing

const back = () => h("p", {}, h("a", { href: "#" }, "← The whole state"));
const page = (level, title, detail, ...rest) => {
  verdict({ level, headline: title, detail });
  return [back(), ...rest];
};

function jobRows(jobs) {
  return jobs.map((job) => [link("job", job.id, job.reference || job.name || `job ${job.id}`),
    state(LEVEL_OF[job.state] || "well", job.state), job.why || "", job.drop, String(job.id)]);
}
const JOB_COLUMNS = [["Entry"], ["State"], ["Why, or its ID"], ["Drop"], ["Job", "number"]];

const views = {
  async job(id) {
    const job = await ask(`job/${encodeURIComponent(id)}`);
    let before = null;
    const calls = job.calls.map((call) => {
      const gap = before !== null && Date.parse(call.at) - before > 5000 ? `${inWords(Date.parse(call.at) - before)} later · ` : "";
      before = Date.parse(call.at) + call.took_ms;
      const level = call.outcome === "done" || call.outcome === "adopted" ? "well" : call.outcome === "refused" ? "stopped" : "wait";
      return h("li", {}, time(call.at, clock(call.at, true)), sign(level), h("div", {},
        h("p", {}, h("b", {}, call.operation), `: ${call.outcome}`), call.detail ? h("p", { class: "mono says" }, call.detail) : null,
        h("p", { class: "soft" }, `${gap}${count(call.took_ms)} ms · ${count(call.sent_bytes)} bytes sent`)));
    });
    return page(LEVEL_OF[job.state] || "well", job.reference || `Job ${job.id}`, `${capital(job.why)}.`,
      job.problems.length > 0 ? h("section", { class: "card stack" }, h("h2", { class: "hidden" }, "What is wrong"),
        job.problems.map((problem) => h("div", {}, h("p", {}, [problem.path || problem.field || "", problem.reason].filter(Boolean).join(": ")),
          h("p", { class: "soft" }, capital(problem.cure || ""))))) : null,
      h("section", {}, h("div", { class: "two" },
        h("div", {}, head("What happened to it"), calls.length > 0 ? h("ol", { class: "card calls" }, calls)
          : h("p", { class: "card" }, "No call to the API was made for it.")),
        h("div", {}, head(`Job ${job.id}`), h("div", { class: "card" }, dl([["State", job.state], ["Kind", job.kind],
          ["Type", [job.category, job.document_type].filter(Boolean).join(", ")], ["Profile", h("span", { class: "mono" }, job.profile_id)],
          ["Created as", job.remote_id ? h("span", { class: "mono" }, job.remote_id) : null], ["Drop", job.drop],
          ["Manifest", [link("manifest", job.batch, job.manifest), `, entry ${job.index}`]],
          ["Waits since", job.waits_since ? time(job.waits_since) : null], ["Until", job.due_at ? time(job.due_at) : null],
          ["Taken in", time(job.created_at)], ["Ended", job.ended_at ? time(job.ended_at) : null],
          ["Receipt", job.receipt ? h("span", { class: "mono" }, job.receipt) : null]]))))),
      h("section", {}, head("Images"), table("Images", [["File"], ["Type"], ["ID"], ["Bytes", "number"]], job.uploads.map((upload) =>
        [upload.path, upload.image_type || "–", upload.remote_id ? h("span", { class: "mono" }, upload.remote_id) : "not sent", count(upload.bytes)]))),
      command(`passfort-ingest show ${job.id}`));
  },
  async manifest(id, after) {
    const batch = await ask(`manifest/${encodeURIComponent(id)}${after ? `?after=${encodeURIComponent(after)}` : ""}`);
    const counts = batch.counts;
    const level = batch.trouble ? "stopped" : counts.held > 0 ? "person" : counts.failed + counts.invalid > 0 || batch.problems.length > 0 ? "person" : counts.open > 0 ? "wait" : "well";
    const words = [[counts.created, "created"], [counts.duplicate, "duplicate"], [counts.failed, "failed"], [counts.invalid, "invalid"],
      [counts.cancelled, "cancelled"], [counts.unchanged, "unchanged"], [counts.open, "to go"]].filter(([n]) => n > 0).map(([n, what]) => `${count(n)} ${what}`);
    return page(level, batch.manifest, `${batch.state}: ${words.join(", ") || "no entries"}.`,
      h("section", { class: "card" }, h("h2", { class: "hidden" }, "Counts"),
        parts([[counts.created + counts.duplicate + counts.unchanged, "well"], [counts.failed + counts.invalid, "stopped"],
          [counts.cancelled, "ink"], [counts.open, null]], words.join(", ")),
        dl([["Drop", batch.drop], ["Received", time(batch.received_at)], ["Finished", batch.finished_at ? time(batch.finished_at) : null],
          ["Trouble", batch.trouble], ["SHA-256", h("span", { class: "mono" }, batch.sha256)],
          ["Receipt", batch.receipt ? h("span", { class: "mono" }, batch.receipt) : null],
          ...batch.problems.map((problem) => ["Problem", `${problem.reason}; ${problem.cure}`])])),
      batch.unwell.length > 0 ? h("section", {}, head("Not well"), table("Entries that are not well", JOB_COLUMNS, jobRows(batch.unwell))) : null,
      batch.invalid.length > 0 ? h("section", {}, head("Not good enough to be sent"), table("Entries that were refused before they were sent",
        [["Entry"], ["What is wrong"], ["Cure"]], batch.invalid.map((entry) => [entry.reference || `entry ${entry.index}`,
          entry.problems.map((problem) => h("p", {}, [problem.path || problem.field || "", problem.reason].filter(Boolean).join(": "))),
          entry.problems.map((problem) => h("p", {}, problem.cure || ""))]))) : null,
      h("section", {}, head("Entries"), table("Entries", JOB_COLUMNS, jobRows(batch.entries)),
        batch.next !== null ? h("p", {}, h("a", { href: `#manifest/${batch.batch}/${batch.next}` }, "More entries")) : null),
      command(`passfort-ingest show batch ${batch.batch}`));
  },
  async jobs(query) {
    const found = await ask(`jobs.json?${query}`);
    const asked = new URLSearchParams(query);
    asked.delete("before");
    const what = [...asked].map(([name, value]) => `${name} ${value}`).join(", ");
    if (found.next !== null) asked.set("before", found.next);
    return page("well", what ? `Jobs: ${what}` : "Jobs", `${count(found.jobs.length)} on this page, the newest first.`,
      h("section", {}, h("h2", { class: "hidden" }, "Jobs"), table("Jobs", JOB_COLUMNS, jobRows(found.jobs)),
        found.next !== null ? h("p", {}, h("a", { href: `#jobs/${asked}` }, "Older ones")) : null));
  },
  async search(wanted) {
    byId("q").value = wanted;
    const result = await ask(`search?q=${encodeURIComponent(wanted)}`);
    const hits = result.found;
    return page(hits.length > 0 ? "well" : "wait", hits.length > 0 ? `“${safe(wanted)}”: ${hits.length} found` : `Nothing is found of “${safe(wanted)}”`,
      hits.length > 0 ? "By numbers, references, profiles, IDs, manifests and paths."
        : "No job and no manifest is known by this number, reference, profile, ID, name or path. The command below searches every path.",
      hits.length > 0 ? h("section", {}, h("h2", { class: "hidden" }, "Found"), table("Found", [["What"], ["Kind"], ["State"], ["By"]], hits.map((hit) => [
        hit.kind === "arrival" ? hit.text : link(hit.kind, hit.id, hit.text), hit.kind === "arrival" ? "not taken in yet" : `${hit.kind} ${hit.id}`,
        state(LEVEL_OF[hit.state] || "well", hit.state), hit.by]))) : null,
      result.partial || hits.length === 0 ? h("section", { class: "stack" }, h("p", {}, "There may be more:"), command(result.command)) : null);
  },
};

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

// ---- what is shown

let latest = null;
let series = null;
let seriesAt = 0;
let heard = 0;
let drawn = {};
let shownVerdict = "";

function verdict({ level, headline, detail, since }) {
  const key = JSON.stringify([level, headline, detail]);
  if (key === shownVerdict) return;
  shownVerdict = key;
  const place = byId("verdict");
  place.className = level;
  place.replaceChildren(sign(level), h("h1", {}, h("span", { class: "hidden" }, `${MEANINGS[level]}: `), headline),
    h("p", {}, detail, since ? [" Since ", time(since), "."] : null));
}

const route = () => {
  const [kind, ...rest] = location.hash.slice(1).split("/");
  const decoded = rest.map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return Object.hasOwn(views, kind) ? { kind, rest: kind === "jobs" ? [rest.join("/")] : kind === "search" ? [decoded.join("/")] : decoded } : null;
};

function draw() {
  if (latest === null || route()) return;
  if (Date.now() - heard > OLD_MS) {
    verdict({ level: "stopped", headline: "The worker does not answer", detail: `What is below is of ${clock(latest.now, true)} and may be old.` });
  } else {
    verdict(latest.verdict);
  }
  const view = byId("view");
  for (const [name, facts, make] of sections) {
    const on = facts(latest);
    const key = JSON.stringify(on);
    if (drawn[name] === key) continue;
    drawn[name] = key;
    let place = view.querySelector(`[data-section=${name}]`);
    if (!place) {
      place = h("div", { "data-section": name });
      view.append(place);
    }
    place.replaceChildren(...[make(on)].filter(Boolean));
  }
  const bad = latest.incidents.filter((one) => one.level !== "wait").length;
  document.title = `${bad > 0 ? `(${bad}) ` : ""}${latest.verdict.headline} – passfort-ingest`;
  const worker = latest.daemon;
  byId("worker").textContent = (worker ? `“${worker.command}”${worker.pid === null ? "" : ` (process ${worker.pid})`} works on ` : "Nobody works on ")
    + `${latest.database} · ${latest.version} · times are in ${latest.zone}`;
}

async function open() {
  const to = route();
  const view = byId("view");
  drawn = {};
  view.replaceChildren();
  if (!to) { draw(); return; }
  try {
    const made = await views[to.kind](...to.rest);
    if (JSON.stringify(route()) !== JSON.stringify(to)) return;
    view.replaceChildren(...made.filter(Boolean));
    document.title = `${byId("verdict").querySelector("h1").lastChild.textContent} – passfort-ingest`;
  } catch (error) {
    verdict({ level: "person", headline: "There is no answer", detail: `${error.message}.` });
    view.replaceChildren(back());
  }
}

let pause = VISIBLE_MS;
let timer = 0;
async function poll() {
  clearTimeout(timer);
  try {
    const status = await ask("status.json");
    if (status !== null) {
      ahead = Date.parse(status.now) - Date.now();
      zone = status.zone;
      latest = status;
      // A row comes once a minute.
      if (Date.now() - seriesAt > 60000) {
        series = await ask("series.json");
        seriesAt = Date.now();
      }
    } else {
      verdict({ level: "well", headline: "Nothing yet", detail: "There is no queue." });
    }
    heard = Date.now();
    pause = VISIBLE_MS;
  } catch {
    pause = Math.min(pause * 2, HIDDEN_MS);
  }
  draw();
  timer = setTimeout(poll, document.hidden ? HIDDEN_MS : pause);
}

function tick() {
  for (const made of document.querySelectorAll("time[data-before]")) tell(made);
  const asof = byId("asof");
  const isOld = heard === 0 || Date.now() - heard > OLD_MS;
  const text = latest === null ? "" : `${clock(latest.now, true)}${isOld ? ", old" : ", live"}`;
  if (asof.textContent !== text) asof.textContent = text;
  asof.className = isOld ? "old" : "live";
  if (isOld) draw();
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  open();
  scrollTo(0, 0);
  byId("main").focus({ preventScroll: true });
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
  event.preventDefault();
  byId("q").focus();
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = byId("q").value.trim();
  location.hash = wanted ? `search/${encodeURIComponent(wanted)}` : "";
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

if (route()) open();
poll();
setInterval(tick, 1000);
