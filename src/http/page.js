// Shows status.json, which is what `passfort-ingest status --json` writes. Names of files and words of the API are
// hostile: every text goes through textContent, and nothing here makes markup of a text.
"use strict";

const EVERY_MS = 2000;
const STATES = ["queued", "running", "waiting", "held", "done", "duplicate", "failed", "cancelled"];
const CAUSES = {
  operator: "paused by a person",
  key_refused: "stopped: the API refuses the key",
  quota_spent: "stopped: a limit of the account is spent",
  outage: "stopped: the API does not work, or cannot be reached",
};
const LIMITS = {
  documents_per_hour: "limits.documents_per_hour",
  requests_per_second: "limits.requests_per_second",
  bytes_per_second: "limits.bytes_per_second",
  windows: "limits.windows",
  api_quota: "the API's own limit",
  retry: "the last retry",
};

const byId = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  // Control characters, and those that turn the direction of writing, would make one name look like another.
  made.textContent = String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => "\\u{" + character.codePointAt(0).toString(16) + "}");
  if (className) made.className = className;
  return made;
}

function inWords(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  if (whole < 172800) return `${Math.round(whole / 3600)} h`;
  return `${Math.round(whole / 86400)} days`;
}

const scopeInWords = (scope) => (scope === "" ? "everything" : scope.replace(":", " "));

function unclaimedInWords({ files, oldest, examples, like_manifests, manifest_examples }) {
  const shown = (paths) => paths.slice(0, 3).join(", ");
  return `${files} files that no manifest names, the oldest since ${oldest || "?"}`
    + (like_manifests > 0 ? `; ${like_manifests} look like manifests, rename them: ${shown(manifest_examples)}` : "")
    + (examples.length > 0 ? `; e.g. ${shown(examples)}` : "");
}

function row(name, jobs, manifests, className) {
  const made = element("tr", "", className);
  made.append(element("td", name));
  for (const count of [...STATES.map((state) => jobs[state] || 0), manifests]) {
    made.append(element("td", count, count === 0 ? "none" : ""));
  }
  return made;
}

function list(id, texts) {
  const section = byId(id);
  section.hidden = texts.length === 0;
  section.querySelector("ul").replaceChildren(...texts.map((text) => element("li", text)));
}

function show(status) {
  const queue = status.queue;
  const since = (moment) => inWords((Date.parse(status.now) - Date.parse(moment)) / 1000);
  const open = (state) => status.totals[state] || 0;
  const worker = status.daemon;
  byId("worker").textContent = worker
    ? `“${worker.command}”${worker.pid === null ? "" : ` (process ${worker.pid})`} works on ${status.database}`
    : `nobody works on ${status.database}`;
  const stuck = worker && worker.trouble
    ? [`stuck: the database cannot be written, so all work waits: ${worker.trouble}`] : [];
  const refused = status.refused === null ? [] : [`nothing is sent, ${status.refused}: see “adopt”`];
  const ground = queue.drops.filter((drop) => drop.ground !== null).map((drop) =>
    `bad ground: nothing of drop ${drop.drop} is taken in`
      + (drop.ground_since === null ? "" : `, for ${since(drop.ground_since)}`) + `: ${drop.ground}`);
  byId("alarms").replaceChildren(...[...stuck, ...refused, ...ground, ...queue.pauses.map((pause) =>
    `${scopeInWords(pause.scope)}: ${CAUSES[pause.cause] || pause.cause}, since ${pause.since}`
      + (pause.detail ? `: ${pause.detail}` : ""))].map((text) => element("p", text, "alarm")));

  byId("states").replaceChildren(...["drop", ...STATES, "manifests"].map((name) => {
    const head = element("th", name);
    head.scope = "col";
    return head;
  }));
  const manifests = (drop) => drop.open_batches + drop.waiting_manifests;
  const rows = queue.drops.map((drop) => row(drop.drop, drop.jobs, manifests(drop)));
  if (queue.drops.length > 1) {
    rows.push(row("all", status.totals, queue.drops.reduce((sum, drop) => sum + manifests(drop), 0), "all"));
  }
  byId("drops").replaceChildren(...rows);

  const facts = [["rate", status.rate_per_minute === null
    ? "nothing created in the last 10 minutes"
    : `${status.rate_per_minute.toFixed(1)} a minute over the last 10 minutes`]];
  if (open("queued") + open("running") + open("waiting") > 0) {
    facts.push(["done in", queue.pauses.some((pause) => pause.scope === "") ? "unknown: it is paused"
      : status.eta_seconds === null ? "unknown: there is no rate yet, or all that is left is paused"
      : `about ${inWords(status.eta_seconds)}, limited by ${LIMITS[status.estimate.limited_by] || "the speed of this run"}`]);
  }
  if (queue.oldest_waiting !== null) {
    facts.push(["oldest waiting", `since ${queue.oldest_waiting}, ${since(queue.oldest_waiting)}`]);
  }
  if (queue.next_due !== null) facts.push(["next retry", queue.next_due]);
  if (queue.last_error !== null) {
    const [job, text] = queue.last_error;
    facts.push(["last error", `job ${job}${queue.last_error_at === null ? "" : `, ${since(queue.last_error_at)} ago`}: ${text}`]);
  }
  if (open("held") > 0) facts.push(["held", `${open("held")} wait for a person: “jobs --state held”, then “release”`]);
  if (queue.possible_leftovers > 0) {
    facts.push(["leftovers", `possibly ${queue.possible_leftovers} images whose answers were lost, and that no document uses`]);
  }
  if (queue.possible_extra_files > 0) {
    facts.push(["extra files", `possibly ${queue.possible_extra_files}: the answers to their uploads were lost`]);
  }
  for (const { job, document_ids } of queue.doubled.slice(0, 3)) {
    facts.push(["doubled", `job ${job}: ${document_ids.join(", ")}; remove all but one in the portal, then run “verify”`]);
  }
  for (const drop of queue.drops) {
    if (drop.watching !== null && drop.watching !== "events") facts.push(["watching", `${drop.drop}: ${drop.watching}`]);
    if (drop.unclaimed !== null) facts.push(["unclaimed", `${drop.drop}: ${unclaimedInWords(drop.unclaimed)}`]);
  }
  byId("facts").replaceChildren(...facts.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));

  list("troubles", queue.troubled.map(([where, why]) => `${where}: ${why}`));
  list("waiting", status.waiting_manifests.map((manifest) =>
    `${manifest.drop}: ${manifest.manifest}: ${manifest.reason} (for ${since(manifest.first_seen)})`));
  byId("seen").textContent = `as of ${status.now}`;
}

async function look() {
  try {
    const answer = await fetch("status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const status = await answer.json();
    if (status !== null) show(status);
  } catch (error) {
    byId("alarms").replaceChildren(element("p", `what stands here is old, the worker gives no answer: ${error.message}`, "alarm"));
  }
  setTimeout(look, EVERY_MS);
}

look();
