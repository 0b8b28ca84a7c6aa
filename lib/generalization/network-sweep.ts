/** Networks of growing width, trained on one data set. */
import { loadData } from "../data/data";
import { exactSpectrum } from "../exact";
import { mlp } from "../model/build";
import { loadModel } from "../model/model";
import { forward, ggn } from "../operators";
import { numericalRank } from "../rank/numerical";
import { type RecipeOptions, train as trainNetwork } from "../training/train";
import type { NetworkSweepOptions, Problem } from "./double-descent";
import { scoreOf, sweepData } from "./random-features";
import { oneHot } from "./samples";

export async function networks(where: string, options: NetworkSweepOptions): Promise<Problem> {
  const {
    problem: _p,
    train: given,
    test: held,
    sizes,
    labelNoise = 0,
    pool = 1,
    ...rest
  } = options;
  const {
    target = "y",
    repeats = 3,
    seed = 0,
    resume: _r,
    signal,
    onProgress: _o,
    ...recipe
  } = rest;
  const { epochs = 2000, ...others } = recipe;
  const data = await sweepData(where, options);
  const { train, test, classes } = data;
  const [n, d] = [train.samples, train.width];
  const rows = (set: typeof train) => ({ data: set.x, shape: [set.samples, d] });
  const countOf = (width: number) => (d + 1) * width + (width + 1) * classes;
  const chosen = Object.entries(others).filter(([, value]) => value !== undefined);
  const defaults = { epochs, learningRate: 0.1, momentum: 0.9, batchSize: Math.min(64, n) };
  const how: RecipeOptions = { ...defaults, ...Object.fromEntries(chosen) };
  return {
    sizes,
    sizeName: "hidden units",
    repeats,
    threshold: (n * classes - classes) / (d + 1 + classes),
    settings: {
      ...{ problem: "networks", train: `${given}`, test: `${held}`, inputs: d, classes },
      data: data.digest,
      ...{ labelNoise, pool, target, seed: `${seed}`, loss: "mse of one-hot targets" },
      ...Object.fromEntries(
        Object.entries(how).map(([name, value]) => [
          name,
          typeof value === "number" ? value : `${value}`,
        ]),
      ),
    },
    at: (width) => ({
      parameters: countOf(width),
      samples: n,
      ratio: countOf(width) / (n * classes),
    }),
    measure: async (width, repeat, { signal: stop = signal }) => {
      const own = BigInt(seed) + BigInt(repeat);
      const labels = data.labels(repeat);
      const Y = { data: oneHot(labels, classes), shape: [n, classes] };
      using samples = await loadData({ x: rows(train), y: Y });
      using others = await loadData({ x: rows(test) });
      using model = await loadModel(
        mlp({ widths: [d, width, classes], activation: "relu", seed: own }),
        { loss: "mse" },
      );
      const { parameters } = await trainNetwork(model, samples, {
        ...how,
        seed: own,
        signal: stop,
      });
      using trained = model.withParameters(parameters);
      const run = { precision: "float64", signal: stop } as const;
      const fitted = await forward(trained, samples, run);
      const predicted = await forward(trained, others, run);
      using H = ggn(trained, samples, { precision: "float64" });
      const { values } = await exactSpectrum(H, { signal: stop });
      const { rank, smallestKept, tolerance } = numericalRank(values);
      const inverse = values.reduce((sum, x) => sum + (x > tolerance ? 1 / x : 0), 0);
      const here = scoreOf(fitted.values, labels, classes);
      const there = scoreOf(predicted.values, test.labels, classes);
      return {
        ...{ trainLoss: here.loss, testLoss: there.loss },
        ...{ trainError: here.error, testError: there.error },
        ...{
          lambdaMinPlus: smallestKept,
          lambdaMax: values[0]!,
          traceInverseOverN: inverse / n,
          rank,
        },
      };
    },
  };
}
