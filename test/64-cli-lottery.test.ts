// lottery on the command line: what it says before it starts, tables, files, resume, errors.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cli, json, subject } from "./60-run";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-lottery-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const line = (...args: string[]) => [
  "lottery",
  ...subject("mlp_relu"),
  ...["--optimizer", "adam", "--learning-rate", "0.003", "--batch-size", "64", "--steps", "8"],
  ...["--seeds", "2", ...args],
];

test("for people, and once more from the folder as a document", () => {
  const rounds = ["--share", "0.6", "--rounds", "2", "--out", folder];
  const { status, out, err } = cli(...line(...rounds));
  expect(err).toMatch(/^14 runs; 112 steps, about [\d.]+ m?s$/m);
  expect(status).toBe(0);
  expect(out).toMatch(/^ *kept +weights +rewound +random +reinitialised$/m);
  expect(out).toMatch(/^100\.00 % +[\d,]+ +[\d.]+ ± [\d.]+$/m);
  expect(out).toMatch(/^ *16\.0\d % +[\d,]+( +[\d.]+ ± [\d.]+){3}$/m);
  expect(out).toContain("The rewound ticket less the others, seed by seed");
  expect(out).toMatch(/^14 runs, [\d.]+ m?s$/m);
  expect(readdirSync(folder).sort()).toEqual(
    expect.arrayContaining([
      "differences.svg",
      "lottery.json",
      "result.json",
      "tickets.csv",
      "tickets.svg",
    ]),
  );
  const document = json(...line(...rounds));
  expect([document.runs, document.reused]).toEqual([14, 14]);
  expect(document.secondsExpected).toBe(0);
  const rows = readFileSync(join(folder, "tickets.csv"), "utf8").trim().split("\n");
  expect(rows[0]).toBe(
    "level,keep,share,kept,kind,accuracy,accuracy se,loss,loss se,difference,difference se",
  );
  expect(rows).toHaveLength(1 + 1 + 2 * 3);
  const { mean } = document.levels[2].tickets.random.accuracy;
  expect(rows[6]).toContain(`,random,${mean},`);
});

test("shares, rewinding and chosen controls", () => {
  const document = json(
    ...line("--keep", "0.4,0.1", "--rewind", "3", "--controls", "one-shot", "--scope", "layer"),
  );
  expect(document.kinds).toEqual(["rewound", "one-shot"]);
  expect([document.rewind, document.criterion]).toEqual([3, "magnitude"]);
  expect(document.levels[2].share).toBeCloseTo(0.1, 2);
  expect(json(...line("--keep", "0.4", "--seeds", "1", "--controls", "none")).kinds).toEqual([
    "rewound",
  ]);
});

test("errors", () => {
  const fails = (message: string, ...args: string[]) => {
    const { status, err } = cli(...line(...args));
    expect(err).toContain(message);
    expect(status).toBe(2);
  };
  fails("controls: expected some of random, reinitialised, one-shot", "--controls", "randm");
  fails('"movement" was probably meant', "--criterion", "movment");
  fails("keep: expected shares over 0 and below 1", "--keep", "0.1,0.5");
});
