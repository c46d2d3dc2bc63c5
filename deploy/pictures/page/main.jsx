// Draws ?board=<uid> from the committed JSON with Grafana's own components, or the trace of trace.json.
import { createRoot } from 'react-dom/client';
import { GlobalStyles, ThemeContext } from '@grafana/ui';
import { Board } from './board.jsx';
import { theme } from './grafana.js';
import { Trace } from './trace.jsx';

const boards = import.meta.glob('../../../dashboards/generated/*.json', { eager: true, import: 'default' });
const asked = new URLSearchParams(location.search).get('board');
const found = Object.entries(boards).find(([path]) => path.endsWith(`/${asked}.json`));

createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary, fontFamily: 'Inter, Helvetica, Arial, sans-serif', fontSize: 14 }}>
      {found ? <Board board={found[1]} /> : <Trace />}
    </div>
  </ThemeContext.Provider>
);
