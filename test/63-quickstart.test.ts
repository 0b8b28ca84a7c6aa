// The main job, as `npm run main-job` runs it: two networks, three operators, real images.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

test("prints the spectra of both networks, all converged", async () => {
  const script = join(__dirname, "..", "examples", "node", "quickstart.js");
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [script]);
  expect(stderr).toBe("");
  expect(stdout).toMatch(/^lenet: 44,426 parameters, cross-entropy 0\.0\d+ over 2,048 test images/);
  expect(stdout).toMatch(/\nmlp: 55,050 parameters, cross-entropy 0\.1\d+ over 2,048 test images/);
  // Ten rows of three eigenvalues with their residuals, twice.
  const rows = stdout.match(/^ +\d+(?: +\d+\.\d+ +\d\.\de[-+]\d+){3}$/gm)!;
  expect(rows).toHaveLength(20);
  for (const row of rows) {
    const [, ...numbers] = row.trim().split(/ +/).map(Number);
    const [h, hResidual, g, gResidual, f, fResidual] = numbers as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    for (const residual of [hResidual, gResidual, fResidual]) expect(residual).toBeLessThan(1e-3);
    // The Fisher of cross-entropy is its Gauss-Newton matrix; the Hessian is near it at a minimum.
    expect(Math.abs(f - g)).toBeLessThan(1e-4 * g);
    expect(Math.abs(h - g)).toBeLessThan(0.2 * g);
  }
  expect(stdout.match(/converged after \d+ products/g)).toHaveLength(6);
  expect(stdout).not.toContain("NOT converged");
  const shares = [...stdout.matchAll(/hold (\d+\.\d) % of the trace/g)].map(([, x]) => Number(x));
  expect(shares).toHaveLength(6);
  for (const share of shares) {
    expect(share).toBeGreaterThan(30);
    expect(share).toBeLessThan(90);
  }
  expect(stdout).toContain("the loss is split from the network");
}, 600_000);
