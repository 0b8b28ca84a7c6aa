// What the tests of the API share: a reference case, a dense operator of JavaScript, a tiny model.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type DataSet,
  type LinearOperator,
  linearOperator,
  loadData,
  loadModel,
  type Model,
} from "../lib";
import { floats, modelBytes, node, value } from "./10-model-maker";

export const CASES = join(__dirname, "fixtures", "cases");

export interface Case {
  loss_value: number;
  grad_norm: number;
  num_params: number;
  N: number;
  parameters: { name: string; shape: number[]; offset: number; size: number }[];
  hessian_top_eigs: { values: number[] };
}

export function caseFile(name: string, file: string): string {
  return join(CASES, name, file);
}

export function caseOf(name: string): Case {
  return JSON.parse(readFileSync(caseFile(name, "case.json"), "utf8"));
}

/** 17,226 parameters, 256 samples, cross-entropy; parameters in PyTorch's order and shapes. */
export async function openCase(name: string): Promise<{ model: Model; data: DataSet }> {
  const model = await loadModel(caseFile(name, "model.onnx"), { loss: "cross-entropy" });
  const data = await loadData({ x: caseFile(name, "x.npy"), y: caseFile(name, "y.npy") });
  return { model, data };
}

/** y = x W^T + b, then tanh, then the same: 3 -> 4 -> 2, with the mse on 5 samples. */
export async function tinyProblem(): Promise<{ model: Model; data: DataSet }> {
  const spread = (n: number, phase: number) =>
    Array.from({ length: n }, (_, i) => Math.sin(1.7 * i + phase));
  const bytes = modelBytes({
    nodes: [
      node("Gemm", ["x", "w1", "b1"], ["a"], { transB: 1n }),
      node("Tanh", ["a"], ["h"]),
      node("Gemm", ["h", "w2", "b2"], ["out"], { transB: 1n }),
    ],
    inputs: [value("x", ["N", 3])],
    outputs: [value("out", ["N", 2])],
    initializers: [
      floats("w1", [4, 3], spread(12, 0)),
      floats("b1", [4], spread(4, 1)),
      floats("w2", [2, 4], spread(8, 2)),
      floats("b2", [2], spread(2, 3)),
    ],
  });
  const model = await loadModel(bytes, { loss: "mse" });
  const data = await loadData({
    x: { data: Float64Array.from(spread(15, 4)), shape: [5, 3] },
    y: { data: Float64Array.from(spread(10, 5)), shape: [5, 2] },
  });
  return { model, data };
}

/** A symmetric matrix with known entries. */
export function symmetric(dim: number, phase = 0): Float64Array {
  const A = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++)
    for (let j = 0; j <= i; j++)
      A[i * dim + j] = A[j * dim + i] = Math.cos(1 + i * 0.3 + j * 0.3 + i * j + phase);
  return A;
}

/** Products of a dense matrix, count vectors at once. */
export function dense(A: Float64Array, dim: number, V: ArrayLike<number>, count = 1): Float64Array {
  const Y = new Float64Array(count * dim);
  for (let k = 0; k < count; k++)
    for (let i = 0; i < dim; i++)
      for (let j = 0; j < dim; j++) Y[k * dim + i]! += A[i * dim + j]! * V[k * dim + j]!;
  return Y;
}

export function denseOperator(A: Float64Array, dim: number): LinearOperator {
  return linearOperator(dim, (V, count) => dense(A, dim, V, count));
}

/** Deterministic numbers between -1 and 1. */
export function vector(length: number, phase = 0): Float64Array {
  return Float64Array.from({ length }, (_, i) => Math.sin(12.9898 * (i + 1) + phase));
}

/** Largest difference over the largest entry of `wanted`. */
export function relative(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (got.length !== wanted.length) return Number.POSITIVE_INFINITY;
  let error = 0;
  let scale = 0;
  for (let i = 0; i < wanted.length; i++) {
    error = Math.max(error, Math.abs(got[i]! - wanted[i]!));
    scale = Math.max(scale, Math.abs(wanted[i]!));
  }
  return scale === 0 ? error : error / scale;
}

/** What a promise rejects with; fails where it does not. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("expected a rejection, and the promise was fulfilled");
}

/**
 * Stops JavaScript for a while; other threads go on. What they finish meanwhile is heard of only
 * afterwards, so that an abort that follows at once comes while the call counts as under way, however
 * busy the machine is.
 */
export function hold(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
