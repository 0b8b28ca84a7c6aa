/** @type {import("jest").Config} */
module.exports = {
  testEnvironment: "node",
  roots: ["<rootDir>/test"],
  testMatch: ["**/*.test.ts"],
  transform: { "^.+\\.ts$": "@swc/jest" },
  // A checkout made by the package test must not be scanned as a second copy of this package.
  modulePathIgnorePatterns: ["<rootDir>/build/", "<rootDir>/dist/"],
  // At least two, so that a test file has a process of its own and a crash names the file.
  maxWorkers: Math.max(2, Math.floor(require("node:os").availableParallelism() / 2)),
  testTimeout: 180_000,
};
