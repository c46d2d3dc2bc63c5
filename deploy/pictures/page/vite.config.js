const proxy = { '/prometheus': { target: process.env.PROMETHEUS, rewrite: path => path.replace('/prometheus', '') } };

export default {
  preview: { host: '127.0.0.1', port: 5199, strictPort: true, proxy },
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  esbuild: { jsx: 'automatic' },
  build: { minify: false, chunkSizeWarningLimit: 20000 },
};
