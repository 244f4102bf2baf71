/** What views are made of: Preact's elements and components, named in one place so that its version is, too. */
export { Component, Fragment, createRef, h, render } from "./vendor/preact-11.2.0/preact.mjs";
