// A package and what it needs as one script for browsers, which sets a global. kurento-utils is published in pieces.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

export function bundle(folder, name, global) {
    const modules = new Map();
    const add = (file) => {
        if (modules.has(file)) return modules.get(file).number;
        const module = { number: modules.size, source: '', needs: {} };
        modules.set(file, module);
        const source = readFileSync(file, 'utf8');
        module.source = file.endsWith('.json') ? `module.exports = ${source}` : source;
        const { resolve } = createRequire(file);
        for (const [, wanted] of source.matchAll(/\brequire\(\s*['"]([^'"]+)['"]\s*\)/g)) {
            const found = find(resolve, wanted);
            if (found) module.needs[wanted] = add(found);
        }
        return module.number;
    };
    // A package that stands in for a module of Node's own is found by its folder. What is not there at all, such as
    // `util`, packages do without.
    const find = (resolve, wanted) => {
        const names = wanted.startsWith('.') ? [wanted] : [`${wanted}/`, wanted];
        for (const name of names) {
            try {
                const file = resolve(name);
                if (path.isAbsolute(file)) return browser(file);
            } catch {
                continue;
            }
        }
        return undefined;
    };
    /** The file that takes this one's place in browsers. */
    const browser = (file) => {
        let at = path.dirname(file);
        while (path.basename(path.dirname(at)) !== 'node_modules') at = path.dirname(at);
        const described = JSON.parse(readFileSync(path.join(at, 'package.json'), 'utf8'));
        const replaced = typeof described.browser === 'object' && described.browser[`./${path.relative(at, file)}`];
        return replaced ? path.join(at, replaced) : file;
    };
    add(createRequire(path.join(folder, 'package.json')).resolve(`${name}/lib/index.js`));
    const functions = [...modules.values()].map(
        ({ source, needs }) => `[function (require, module, exports) {${source}\n}, ${JSON.stringify(needs)}]`,
    );
    return `globalThis.${global} = (() => {
        const modules = [${functions.join(',\n')}];
        const made = [];
        const load = (number) => {
            if (!made[number]) {
                const module = made[number] = { exports: {} };
                const [run, needs] = modules[number];
                const need = (name) => {
                    if (!(name in needs)) throw new Error('no ' + name + ' here');
                    return load(needs[name]);
                };
                run.call(module.exports, need, module, module.exports);
            }
            return made[number].exports;
        };
        return load(0);
    })();`;
}
