// A served page asks once a second whether its files have changed, and is loaded again then.
{
  const { live, message } = JSON.parse(document.getElementById("data").textContent);
  if (message) document.getElementById("message").textContent = message;
  if (live) {
    const ask = async () => {
      try {
        const answer = await fetch("/changed", { cache: "no-store" });
        if (answer.ok && (await answer.text()) !== live) return location.reload();
      } catch {
        // the command has ended; it may be started again, at another address
      }
      return setTimeout(ask, 1000);
    };
    setTimeout(ask, 1000);
  }
}
