/** The command line. Commands load what they need when they run, so that --help is quick. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { exitCodeOf, OptionError } from "../errors";
import { packageRoot } from "../native";
import { nearest } from "../options";
import { type Globals, type OptionGroup, type OptionRow, shared } from "./arguments";
import { COMMANDS } from "./commands";
import { printError } from "./output";

/** One command: its own options and the groups it shares with others. */
export interface CommandRow {
  name: string;
  summary: string;
  /** What the command is given first, where that is not a network: its name, and what it is. */
  subject?: readonly [name: string, text: string];
  /** Whole command lines, shown by --help. */
  examples: readonly string[];
  groups: readonly OptionGroup[];
  options: readonly OptionRow[];
  /** Files after the model, at least one: the option `files` of the command gets them. */
  files?: readonly [placeholder: string, text: string];
  /** What --help says below the options. */
  notes?: string;
  load: () => { run: (model: string, options: never, globals: Globals) => Promise<number> };
}

function version(): string {
  return JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")).version;
}

/** What comes first on the command line. */
function subjectOf({ subject = ["model", "a network exported to ONNX"] }: CommandRow) {
  return [`<${subject[0]}>`, subject[1]] as const;
}

function program(finish: (code: number) => void, globals: Globals): Command {
  const top = new Command("eigenscope")
    .description("Curvature spectra, sub-networks, symmetries and ranks of ONNX networks")
    .option("--version", "print the version; with --verbose, of everything below as well")
    .option("--verbose", "more of --version")
    .helpCommand(false)
    .allowExcessArguments()
    .configureHelp({ showGlobalOptions: false })
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .addHelpText(
      "after",
      "\nExit codes: 0 done, 1 internal error, 2 bad input, 3 unsupported model, 4 not converged\n" +
        "(results are written), 130 interrupted.\n\nExample:\n" +
        "  eigenscope spectrum model.onnx --data val.npz --loss cross-entropy --k 20\n",
    )
    .action((options: { version?: boolean; verbose?: boolean }) => {
      const [unknown] = top.args;
      if (unknown !== undefined) {
        const names = COMMANDS.map(({ name }) => name);
        const meant = nearest(unknown, names);
        throw new OptionError(
          `expected one of the commands ${names.join(", ")}, got "${unknown}"` +
            `${meant ? `; "${meant}" was probably meant` : ""}`,
        );
      }
      if (!options.version) {
        top.outputHelp();
        return finish(2);
      }
      if (!options.verbose) process.stdout.write(`${version()}\n`);
      else (require("./version") as typeof import("./version")).printVersions(version());
      finish(0);
    });
  for (const row of COMMANDS) {
    const command = top
      .command(row.name)
      .description(row.summary)
      .argument(...subjectOf(row))
      .exitOverride()
      .configureOutput({ outputError: () => {} })
      .addHelpText(
        "after",
        `${row.notes ? `\n${row.notes}\n` : ""}\nExample:\n${row.examples.map((line) => `  ${line}\n`).join("")}`,
      );
    if (row.files) command.argument(`<${row.files[0]}...>`, row.files[1]);
    for (const option of [...row.options, ...row.groups.flatMap((group) => shared[group])]) {
      const [flags, text, parse] = option;
      const many = flags.includes("...");
      if (parse === undefined) command.option(flags, text);
      else if (many)
        command.option(flags.replace("...", ""), text, (value: string, previous?: unknown[]) => [
          ...(previous ?? []),
          named(flags, parse, value),
        ]);
      else command.option(flags, text, (value: string) => named(flags, parse, value));
    }
    command.action(async (model: string, ...given: unknown[]) => {
      const [files, options] = row.files ? given : [undefined, ...given];
      const all = { ...(options as object), ...(files !== undefined && { files }) };
      finish(await row.load().run(model, all as never, globals));
    });
  }
  return top;
}

/** The value of an option; what does not fit names the option. */
function named(flags: string, parse: (text: string) => unknown, value: string): unknown {
  try {
    return parse(value);
  } catch (error) {
    if (error instanceof OptionError)
      throw new OptionError(`${flags.match(/--[\w-]+/)?.[0]}: ${error.message}`);
    throw error;
  }
}

/** Runs one command line and gives its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => interrupt.abort(new Error(signal)));
  const globals: Globals = { signal: interrupt.signal, json: args.includes("--json") };
  let code = 0;
  try {
    const top = program((given) => {
      code = given;
    }, globals);
    await top.parseAsync(args as string[], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      const message = error.message.replace(/^error: /, "").replace(/\s*\n\s*/g, " ");
      printError(new OptionError(`${message} See eigenscope --help`), globals.json);
      return 2;
    }
    printError(error, globals.json);
    return exitCodeOf(error);
  }
}

// A reader that closes its end early, such as head, is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 1);
});
main(process.argv.slice(2)).then((code) => process.exit(code));
