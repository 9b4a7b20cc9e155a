#!/usr/bin/env node
import "../dist/cli/lamella-overlay.js";
