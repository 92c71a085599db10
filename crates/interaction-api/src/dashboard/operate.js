// Replay and discard: first a dry run says how many, then somebody says why.

import { post } from "./ask.js";
import { $, put, whole } from "./show.js";
import { t } from "./words.js";

let pending = null, after = () => {}, again = () => {};

/// Called after something was done.
export function settled(handler) { after = handler; }
/// Called when everything shown may have changed.
export function changes(handler) { again = handler; }

export function done(text, failed = false) {
  $("done").className = failed ? "done failed" : "done";
  put("done", text);
}

/// Who operates by a token has its name; others say theirs.
export function callMe(name) { if (name && !$("actor").value) $("actor").value = name; }

export async function operate(deed, asked, what) {
  let count = 0, more = false;
  try {
    for (const selection of asked) {
      const would = await post("events/" + deed, { ...selection, dry_run: true });
      count += would.count;
      more ||= Boolean(would.next_page_token);
    }
  } catch (error) {
    return done(error.message, true);
  }
  if (count === 0) return done(t("Nothing to do: it is neither failed nor dead any more."));
  const discard = deed === "discard", n = `${whole(count)}${more ? "+" : ""}`, one = count === 1 && !more;
  pending = { deed, asked };
  $("confirm").className = discard ? "danger" : "";
  put("confirm-title", discard ? one ? t("Discard 1 event?") : t("Discard {n} events?", { n }) : one ? t("Replay 1 event?") : t("Replay {n} events?", { n }));
  put("confirm-text", t("This is about: {what}.", { what }) + " " + (discard
    ? t("Discarding is for good: the like is never applied, and the cache shows again what the database says.")
    : t("It is tried again within seconds. What took effect already, or was changed since, changes nothing.")));
  put("reason-label", discard ? t("Why (must be given)") : t("Why"));
  $("reason").required = discard;
  put("go", discard ? t("Discard") : t("Replay"));
  $("confirm-error").hidden = true;
  $("reason").value = "";
  $("confirm").showModal();
  $(discard ? "reason" : "go").focus();
}

async function confirmed() {
  const { deed, asked } = pending;
  const actor = $("actor").value.trim(), reason = $("reason").value.trim();
  $("go").disabled = true;
  let count = 0, skipped = 0;
  try {
    for (const selection of asked) {
      let token = "";
      do {
        const answer = await post("events/" + deed, selection.ids ? { ...selection, actor, reason } : { ...selection, actor, reason, page_token: token });
        count += answer.count;
        skipped += answer.skipped.length;
        token = answer.next_page_token;
      } while (token);
    }
    $("confirm").close();
    after();
    const n = whole(count);
    const words = deed === "discard" ? count === 1 ? t("1 event discarded.") : t("{n} events discarded.", { n }) : count === 1 ? t("1 event replayed.") : t("{n} events replayed.", { n });
    done(words + (skipped ? " " + t("{n} left alone.", { n: skipped }) : ""));
  } catch (error) {
    put("confirm-error", error.message);
    $("confirm-error").hidden = false;
  } finally {
    $("go").disabled = false;
    again();
  }
}

export function begin() {
  $("confirm-form").addEventListener("submit", (event) => { event.preventDefault(); confirmed(); });
  $("cancel").addEventListener("click", () => $("confirm").close());
}
