/** Patterns for parameter names. */
import { OptionError } from "../errors";

const MAGIC = /[*?[\]{}]/;

/** True where the pattern is a plain name. */
export function isPlainName(pattern: string): boolean {
  return !MAGIC.test(pattern);
}

const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

/**
 * A pattern as a test of whole names. `*` is any run of characters, dots and slashes included, `?`
 * one character, `[a-c]` and `[!a-c]` one of a set, `{weight,bias}` one of several.
 *
 * @throws OptionError when a bracket or brace is not closed
 */
export function globToRegExp(pattern: string): RegExp {
  const unclosed = (what: string) =>
    new OptionError(
      `expected a pattern of names, got "${pattern}", in which ${what} is not closed`,
    );
  let source = "";
  let depth = 0;
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i]!;
    if (c === "*") source += ".*";
    else if (c === "?") source += ".";
    else if (c === "{") {
      source += "(?:";
      depth++;
    } else if (c === "}" && depth > 0) {
      source += ")";
      depth--;
    } else if (c === "," && depth > 0) source += "|";
    else if (c === "[") {
      const end = pattern.indexOf("]", i + 2);
      if (end < 0) throw unclosed("a bracket");
      const body = pattern.slice(i + 1, end).replace(/[\\[\]]/g, "\\$&");
      source += body.startsWith("!") ? `[^${body.slice(1)}]` : `[${body.replace(/^\^/, "\\^")}]`;
      i = end;
    } else source += escaped(c);
  }
  if (depth > 0) throw unclosed("a brace");
  try {
    return new RegExp(`^(?:${source})$`, "s");
  } catch (cause) {
    throw new OptionError(`expected a pattern of names, got "${pattern}"`, { cause });
  }
}

/** Patterns as callers give them: one, or several of which one must match. */
export type Globs = string | readonly string[];

const listOf = (globs: Globs): readonly string[] => (typeof globs === "string" ? [globs] : globs);

/**
 * Which of `names` match. A pattern that matches none is taken for a mistake.
 *
 * @param what the option, for the message
 * @throws OptionError when a pattern matches none of the names
 */
export function matchGlobs(names: readonly string[], globs: Globs, what: string): boolean[] {
  const matched = names.map(() => false);
  for (const pattern of listOf(globs)) {
    if (typeof pattern !== "string")
      throw new OptionError(`${what}: expected patterns of names, got ${typeof pattern}`);
    const expression = globToRegExp(pattern);
    let any = false;
    names.forEach((name, i) => {
      if (name !== pattern && !expression.test(name)) return;
      matched[i] = true;
      any = true;
    });
    if (!any) {
      const shown = names.slice(0, 8).join(", ") + (names.length > 8 ? ", ..." : "");
      throw new OptionError(
        `${what}: "${pattern}" matches no parameter; names are ${shown || "none at all"}`,
      );
    }
  }
  return matched;
}
