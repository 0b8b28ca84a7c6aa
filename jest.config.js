/** @type {import("jest").Config} */
module.exports = {
  testEnvironment: "node",
  roots: ["<rootDir>/test"],
  testMatch: ["**/*.test.ts"],
  transform: { "^.+\\.ts$": "@swc/jest" },
  // A checkout made by the package test must not be scanned as a second copy of this package.
  modulePathIgnorePatterns: ["<rootDir>/build/", "<rootDir>/dist/"],
  testTimeout: 60_000,
};
