/** The options of training, shared by train and lottery. */
import { OptionError } from "../errors";
import type { Schedule } from "../training/schedules";
import {
  notNegative,
  number,
  numbers,
  type OptionRow,
  oneOf,
  positive,
  shared,
  text,
  whole,
} from "./arguments";

/** Two numbers, by a comma. */
function pair(value: string): [number, number] {
  const found = numbers(value);
  if (found.length !== 2)
    throw new OptionError(`expected two numbers, such as 0.9,0.999, got "${value}"`);
  return found as [number, number];
}

/** constant, cosine, linear, step:EVERY[,FACTOR], or STEP:RATE,STEP:RATE,... */
function schedule(value: string): Schedule {
  if (value === "constant" || value === "cosine" || value === "linear") return value;
  const fail = () =>
    new OptionError(
      "expected constant, cosine, linear, step:EVERY,FACTOR such as step:1000,0.1, or STEP:RATE " +
        `by commas such as 0:0.1,2000:0.01, got "${value}"`,
    );
  const [, stairs] = /^step:(.+)$/.exec(value) ?? [];
  if (stairs !== undefined) {
    const [every, factor, ...rest] = stairs.split(",").map(Number);
    if (rest.length > 0 || !(every! >= 1)) throw fail();
    return { kind: "step", every: every!, factor };
  }
  return value.split(",").map((point) => {
    const [, step, rate] = /^(\d+):(.+)$/.exec(point) ?? [];
    if (rate === undefined) throw fail();
    return [Number(step), number(rate)] as const;
  });
}

/** Options of a recipe, and of how it is computed; --batch of other commands has no meaning here. */
export const RECIPE: readonly OptionRow[] = [
  [
    "--optimizer <o>",
    "sgd (default), adam, adamw, as in torch.optim",
    oneOf("sgd", "adam", "adamw"),
  ],
  ["--learning-rate <x>", "default 0.1; of adam and adamw 0.001", notNegative],
  [
    "--schedule <s>",
    "constant (default), cosine, linear, step:EVERY,FACTOR, or STEP:RATE,STEP:RATE,...",
    schedule,
  ],
  ["--warmup <n>", "steps over which the rate first rises", whole(0)],
  ["--momentum <x>", "sgd (default 0)", notNegative],
  ["--dampening <x>", "sgd: of momentum (default 0)", number],
  ["--nesterov", "sgd: Nesterov's momentum"],
  ["--betas <a,b>", "adam, adamw (default 0.9,0.999)", pair],
  ["--epsilon <x>", "adam, adamw (default 1e-8)", notNegative],
  ["--weight-decay <x>", "default 0; of adamw 0.01", notNegative],
  ["--batch-size <n>", "samples a step (default 64)", whole(1)],
  ["--epochs <n>", "default 1", positive],
  ["--steps <n>", "instead of epochs", whole(0)],
  ["--no-shuffle", "take the samples in their order in every epoch"],
  ["--drop-last", "leave out an epoch's last minibatch where it is smaller"],
  ["--test <file>", "data held out, as --data", text],
  ["--test-inputs <file...>", "data held out, as --inputs", text],
  ["--test-targets <file>", "data held out, as --targets", text],
  ["--test-samples <n>", "only the first n of them", whole(1)],
  ...shared.run.filter(([flags]) => !flags.startsWith("--batch ")),
];
