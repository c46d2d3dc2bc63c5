// Opens each board and the trace in headless Chromium, waits until every panel is drawn, and takes its picture.
import { readdirSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { preview } from 'vite';

const server = await preview();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
const minutes = process.env.MINUTES ?? '8';
const boards = readdirSync('../../../dashboards/generated').map(name => name.replace('.json', ''));

for (const board of [...boards, 'trace']) {
  const page = await browser.newPage({ viewport: { width: 1440, height: board === 'trace' ? 100 : 900 } });
  page.on('pageerror', error => console.error(board, String(error).slice(0, 300)));
  await page.goto(`http://127.0.0.1:5199/?board=${board}&minutes=${minutes}`);
  await page.waitForFunction(() => {
    const states = [...document.querySelectorAll('[data-state]')].map(one => one.dataset.state);
    return states.length && states.every(state => state !== 'waiting');
  }, null, { timeout: 60_000 });
  await page.waitForTimeout(1500); // the charts' last frame
  const wrong = await page.$$eval('[data-state]', all => all.map(one => [one.dataset.panel, one.dataset.state]).filter(([, state]) => state !== 'drawn'));
  if (wrong.length) throw new Error(`${board}: ${JSON.stringify(wrong)}`);
  await page.screenshot({ path: `../${board}.png`, fullPage: true });
  await page.close();
}
await browser.close();
await server.close();
